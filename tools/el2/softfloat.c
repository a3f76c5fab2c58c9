// The two conversions that capstone's operands of type double need, on bit patterns, since EL2 has no floating point.
// Values are finite or zero: immediates of FMOV, 3 bits of exponent and 4 of fraction.
#include <stdint.h>
#include <string.h>

double __extendsfdf2(float value) {
    uint32_t in;
    memcpy(&in, &value, sizeof in);
    uint64_t exponent = in >> 23 & 0xff;
    uint64_t out = (uint64_t)(in >> 31) << 63;
    if (exponent != 0) {
        out |= (exponent == 0xff ? 0x7ff : exponent + (1023 - 127)) << 52 | (uint64_t)(in & 0x7fffff) << 29;
    }
    double result;
    memcpy(&result, &out, sizeof result);
    return result;
}

float __truncdfsf2(double value) {
    uint64_t in;
    memcpy(&in, &value, sizeof in);
    int64_t exponent = (int64_t)(in >> 52 & 0x7ff) - (1023 - 127);
    uint32_t out = (uint32_t)(in >> 63) << 31;
    if (exponent >= 0xff) {
        out |= UINT32_C(0xff) << 23;
    } else if (exponent > 0) {
        out |= (uint32_t)exponent << 23 | (uint32_t)(in >> 29 & 0x7fffff);
    }
    float result;
    memcpy(&result, &out, sizeof result);
    return result;
}
