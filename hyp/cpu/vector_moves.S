// Moves between V0..V31 and general registers: the only instructions of the image that have SIMD registers as operands.
// tools/check-no-fp lets FMOV pass between weir_vector_access_begin and weir_vector_access_end, and nothing else.
//
// FMOV (general) is a scalar floating-point instruction: unlike UMOV and INS, all of it works in Streaming SVE mode,
// too, which the guest may have left on.

    .section .text.weir_vector_access, "ax", %progbits

    .equ    FMOV_X_D, 0x9e660000            // FMOV Xd, Dn
    .equ    FMOV_X_V1, 0x9eae0000           // FMOV Xd, Vn.D[1]
    .equ    FMOV_D_X, 0x9e670000            // FMOV Dd, Xn: zeroes the rest
    .equ    FMOV_V1_X, 0x9eaf0000           // FMOV Vd.D[1], Xn

    .balign 16
    .globl  weir_vector_access_begin
    .type   weir_vector_access_begin, %function
weir_vector_access_begin:
    udf     #0
    .size   weir_vector_access_begin, . - weir_vector_access_begin

// {x0, x1} weir_vector_read(x0 = n)
    .balign 16
    .globl  weir_vector_read
    .type   weir_vector_read, %function
weir_vector_read:
    adr     x16, 1f
    add     x16, x16, x0, lsl #4
    br      x16
    .balign 16
1:
    .set    n, 0
    .rept   32
    .inst   FMOV_X_D | (n << 5) | 0
    .inst   FMOV_X_V1 | (n << 5) | 1
    ret
    nop
    .set    n, n + 1
    .endr
    .size   weir_vector_read, . - weir_vector_read

// weir_vector_write(x0 = low, x1 = high, x2 = n)
    .balign 16
    .globl  weir_vector_write
    .type   weir_vector_write, %function
weir_vector_write:
    adr     x16, 1f
    add     x16, x16, x2, lsl #4
    br      x16
    .balign 16
1:
    .set    n, 0
    .rept   32
    .inst   FMOV_D_X | (0 << 5) | n
    .inst   FMOV_V1_X | (1 << 5) | n
    ret
    nop
    .set    n, n + 1
    .endr
    .size   weir_vector_write, . - weir_vector_write

    .balign 16
    .globl  weir_vector_access_end
    .type   weir_vector_access_end, %function
weir_vector_access_end:
    udf     #0
    .size   weir_vector_access_end, . - weir_vector_access_end
