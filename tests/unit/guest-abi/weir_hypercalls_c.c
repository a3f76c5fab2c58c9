// guest-abi/weir_hypercalls.h in a C program; weir_hypercalls_test.cpp compares.
#include "guest-abi/weir_hypercalls.h"

extern const long long weir_hypercalls_in_c[];
extern const unsigned weir_hypercalls_in_c_count;

const long long weir_hypercalls_in_c[] = {
    WEIR_CALL_UID,
    WEIR_CALL_REVISION,
    WEIR_CALL_FEATURES,
    WEIR_CALL_DIRTY_STOP,
    WEIR_UID_3,
    WEIR_REVISION_MINOR,
    WEIR_NOT_SUPPORTED,
    WEIR_CANNOT_SPLIT,
    (long long)WEIR_LIMIT_PER_CALL(0x0123456789abcdefull),
    (long long)WEIR_LIMIT_GRANTS(0x0123456789abcdefull),
    (long long)WEIR_LIMIT_ACCEPTED(0x0123456789abcdefull),
    WEIR_PAGE_BYTES,
};
const unsigned weir_hypercalls_in_c_count = sizeof weir_hypercalls_in_c / sizeof weir_hypercalls_in_c[0];
