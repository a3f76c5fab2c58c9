// All vector registers to and from memory. x0: where, in the order of the functions below; sizes from vector_bytes() etc.

    .text
    .arch armv9-a+sme
    .macro  function name
    .global \name
\name:
    .endm

    // V0..V31: 512 bytes
    function load_v
    ldp     q0, q1, [x0]
    ldp     q2, q3, [x0, #32]
    ldp     q4, q5, [x0, #64]
    ldp     q6, q7, [x0, #96]
    ldp     q8, q9, [x0, #128]
    ldp     q10, q11, [x0, #160]
    ldp     q12, q13, [x0, #192]
    ldp     q14, q15, [x0, #224]
    ldp     q16, q17, [x0, #256]
    ldp     q18, q19, [x0, #288]
    ldp     q20, q21, [x0, #320]
    ldp     q22, q23, [x0, #352]
    ldp     q24, q25, [x0, #384]
    ldp     q26, q27, [x0, #416]
    ldp     q28, q29, [x0, #448]
    ldp     q30, q31, [x0, #480]
    ret
    function save_v
    stp     q0, q1, [x0]
    stp     q2, q3, [x0, #32]
    stp     q4, q5, [x0, #64]
    stp     q6, q7, [x0, #96]
    stp     q8, q9, [x0, #128]
    stp     q10, q11, [x0, #160]
    stp     q12, q13, [x0, #192]
    stp     q14, q15, [x0, #224]
    stp     q16, q17, [x0, #256]
    stp     q18, q19, [x0, #288]
    stp     q20, q21, [x0, #320]
    stp     q22, q23, [x0, #352]
    stp     q24, q25, [x0, #384]
    stp     q26, q27, [x0, #416]
    stp     q28, q29, [x0, #448]
    stp     q30, q31, [x0, #480]
    ret

    // Bytes of a Z register now, and of a streaming one.
    function vector_bytes
    rdvl    x0, #1
    ret
    function streaming_bytes
    rdsvl   x0, #1
    ret

    // Z0..Z31. x0: where
    .altmacro
    .macro  z_one op, n
    \op     z\n, [x0, #\n, mul vl]
    .endm
    .macro  p_one op, n
    \op     p\n, [x0, #\n, mul vl]
    .endm
    function load_z
    .set n, 0
    .rept 32
    z_one   ldr, %n
    .set n, n + 1
    .endr
    ret
    function save_z
    .set n, 0
    .rept 32
    z_one   str, %n
    .set n, n + 1
    .endr
    ret
    // P0..P15, each an eighth of a Z register
    function load_p
    .set n, 0
    .rept 16
    p_one   ldr, %n
    .set n, n + 1
    .endr
    ret
    function save_p
    .set n, 0
    .rept 16
    p_one   str, %n
    .set n, n + 1
    .endr
    ret
    // FFR; p15 is lost when loading, kept when saving
    function load_ffr
    ldr     p15, [x0]
    wrffr   p15.b
    ret
    function save_ffr
    sub     sp, sp, #32
    str     p15, [sp]
    rdffr   p15.b
    str     p15, [x0]
    ldr     p15, [sp]
    add     sp, sp, #32
    ret

    // ZA, x1: rows
    function load_za
    mov     w12, #0
1:  ldr     za[w12, #0], [x0]
    addsvl  x0, x0, #1
    add     w12, w12, #1
    cmp     w12, w1
    b.lo    1b
    ret
    function save_za
    mov     w12, #0
1:  str     za[w12, #0], [x0]
    addsvl  x0, x0, #1
    add     w12, w12, #1
    cmp     w12, w1
    b.lo    1b
    ret
    // ZT0: 64 bytes
    .arch armv9-a+sme+sme2
    function load_zt
    ldr     zt0, [x0]
    ret
    function save_zt
    str     zt0, [x0]
    ret
    function za_on
    smstart za
    ret
    function za_off
    smstop  za
    ret
    function streaming_on
    smstart sm
    ret
    function streaming_off
    smstop  sm
    ret
