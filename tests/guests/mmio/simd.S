// Device accesses by SIMD and FP registers. x0: device, x1: the register's content in memory.
    .text
    .macro  function name
    .global \name
\name:
    .endm

    function store_s
    ldr     q0, [x1]
    str     s0, [x0]
    ret
    function store_d
    ldr     q1, [x1]
    str     d1, [x0]
    ret
    function store_q
    ldr     q2, [x1]
    str     q2, [x0]
    ret
    function store_q_pair
    ldp     q30, q31, [x1]
    stp     q30, q31, [x0]
    ret
    function load_s
    movi    v3.16b, #0xff
    ldr     s3, [x0]
    str     q3, [x1]
    ret
    function load_d
    movi    v4.16b, #0xff
    ldr     d4, [x0]
    str     q4, [x1]
    ret
    function load_q
    ldr     q5, [x0]
    str     q5, [x1]
    ret
    function load_q_pair
    ldp     q6, q7, [x0]
    stp     q6, q7, [x1]
    ret
