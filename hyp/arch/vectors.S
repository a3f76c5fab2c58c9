// EL2's exception vectors and the world switch.

    .section .text, "ax", %progbits

#include "hyp/panic/frame.inc"

// Exceptions of EL2 itself: never expected, and never returned from. VBAR_EL2 tells which one it is, for nothing else can be
// trusted: the first goes to hyp/panic, the second (while the first is being reported) to a path that needs nothing, the third
// stays where it is.
//
// The first: the registers go to the pCPU's emergency frame (its address is the word behind the thread pointer, see
// hyp/arch/pcpu.cpp), because SP may be what is broken. SP_EL0 and TPIDR_EL0, the guest's, are scratch.
    .macro  el2_exception kind
    .balign 128
    msr     sp_el0, x0
    msr     tpidr_el0, x1
    adr     x0, minimal_vectors
    msr     vbar_el2, x0
    isb
    mov     x1, #\kind
    mrs     x0, tpidr_el2
    cbz     x0, minimal_exception           // before per-pCPU data
    ldr     x0, [x0, #8]
    b       el2_panic
    .endm

// The second.
    .macro  minimal_vector kind
    .balign 128
    msr     sp_el0, x0
    msr     tpidr_el0, x1
    mov     x1, #\kind
    b       minimal_exception
    .endm

// The third.
    .macro  last_vector
    .balign 128
    b       last_exception
    .endm

// Exceptions of the guest, from AArch64 and AArch32 alike. SP is what run_guest left.
    .macro  guest_exception kind
    .balign 128
    str     x0, [sp, #FRAME_X0]
    ldr     x0, [sp, #FRAME_REGISTERS]
    stp     x1, x2, [x0, #8]
    mov     w1, #\kind
    b       guest_exit
    .endm

// The frame of run_guest.
    .equ    FRAME_RECORD, 80
    .equ    FRAME_REGISTERS, 96
    .equ    FRAME_EXITED, 104               // and behind it the context
    .equ    FRAME_X0, 120                   // the guest's, for a moment
    .equ    FRAME_BYTES, 128

    .balign 2048
    .globl  exception_vectors
exception_vectors:
    el2_exception 0                         // with SP_EL0
    el2_exception 1
    el2_exception 2
    el2_exception 3
    el2_exception 4                         // with SP_EL2
    el2_exception 5
    el2_exception 6
    el2_exception 7
    guest_exception 0
    guest_exception 1
    guest_exception 2
    guest_exception 3
    guest_exception 0
    guest_exception 1
    guest_exception 2
    guest_exception 3

// x0 -> PanicFrame, x1 = vector; SP_EL0 holds x0, TPIDR_EL0 x1.
el2_panic:
    save_frame
    save_syndrome el2
    mov     sp, x0                          // the emergency stack grows down from the frame
    mov     x29, xzr
    mov     x30, xzr
    b       el2_exception_panic             // hyp/panic; does not return

// x1 = vector; SP_EL0 holds x0, TPIDR_EL0 x1. For one pCPU: others that come here stay silent. LDXR and STXR: there may be no
// LDADD.
minimal_exception:
    adr     x0, last_vectors
    msr     vbar_el2, x0
    isb
    msr     tpidrro_el0, x2
    msr     tpidr_el1, x3
    adrp    x0, minimal_taken
    add     x0, x0, :lo12:minimal_taken
1:  ldxr    w2, [x0]
    cbnz    w2, last_exception
    mov     w2, #1
    stxr    w3, w2, [x0]
    cbnz    w3, 1b
    mrs     x2, tpidrro_el0
    mrs     x3, tpidr_el1
    adrp    x0, minimal_frame
    add     x0, x0, :lo12:minimal_frame
    save_frame
    save_syndrome el2
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    bl      minimal_exception_report        // hyp/early/words.cpp
    b       minimal_exit                    // hyp/panic; does not return

last_exception:
    msr     daifset, #0xf
1:  wfi
    b       1b

    .balign 2048
    .globl  minimal_vectors
    .hidden minimal_vectors
minimal_vectors:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    minimal_vector \n
    .endr
    .balign 2048
last_vectors:
    .rept   16
    last_vector
    .endr

    .pushsection .bss.minimal, "aw", %nobits
    .balign 16
    .skip   0x1000                          // its stack
minimal_frame:
    .skip   FRAME_SPACE
minimal_taken:
    .skip   4
    .popsection

// void run_guest(GuestRegisters*, GuestNext (*exited)(void* context, ExitKind), void* context)
// What the compiler wants kept across the call is saved once; between two entries `exited` keeps to its own frame. The
// pair of x29 and x30 is also the frame record that a backtrace of `exited` goes on with.
    .globl  run_guest
    .type   run_guest, %function
run_guest:
    sub     sp, sp, #FRAME_BYTES
    stp     x19, x20, [sp]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #FRAME_RECORD]
    str     x0, [sp, #FRAME_REGISTERS]
    stp     x1, x2, [sp, #FRAME_EXITED]
    mov     x1, x0
enter_guest:                                // x1 -> GuestRegisters
    ldp     x19, x20, [x1, #152]
    ldp     x21, x22, [x1, #168]
    ldp     x23, x24, [x1, #184]
    ldp     x25, x26, [x1, #200]
    ldp     x27, x28, [x1, #216]
enter_kept:                                 // the same, and x19-x28 are the guest's
    ldp     x2, x3, [x1, #256]              // PC, PSTATE
    msr     elr_el2, x2
    msr     spsr_el2, x3
    ldp     x29, x30, [x1, #232]
    ldp     x17, x18, [x1, #136]
    ldp     x15, x16, [x1, #120]
    ldp     x13, x14, [x1, #104]
    ldp     x11, x12, [x1, #88]
    ldp     x9, x10, [x1, #72]
    ldp     x7, x8, [x1, #56]
    ldp     x5, x6, [x1, #40]
    ldp     x3, x4, [x1, #24]
    ldr     x0, [x1]
    ldp     x1, x2, [x1, #8]
    eret
    dsb     nsh                             // no speculation past the ERET
    isb

guest_exit:                                 // x0 -> GuestRegisters, holding x1 and x2; x1 = ExitKind
    stp     x3, x4, [x0, #24]
    stp     x5, x6, [x0, #40]
    stp     x7, x8, [x0, #56]
    stp     x9, x10, [x0, #72]
    stp     x11, x12, [x0, #88]
    stp     x13, x14, [x0, #104]
    stp     x15, x16, [x0, #120]
    stp     x17, x18, [x0, #136]
    stp     x19, x20, [x0, #152]
    stp     x21, x22, [x0, #168]
    stp     x23, x24, [x0, #184]
    stp     x25, x26, [x0, #200]
    stp     x27, x28, [x0, #216]
    stp     x29, x30, [x0, #232]
    ldr     x2, [sp, #FRAME_X0]
    mrs     x3, elr_el2
    mrs     x4, spsr_el2
    str     x2, [x0]
    stp     x3, x4, [x0, #256]
    ldp     x2, x0, [sp, #FRAME_EXITED]
    add     x29, sp, #FRAME_RECORD
    blr     x2                              // x19-x28 are the guest's now and again behind it
    ldr     x1, [sp, #FRAME_REGISTERS]
    tbnz    w0, #1, enter_kept
    cbnz    w0, enter_guest
    ldp     x19, x20, [sp]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #FRAME_RECORD]
    add     sp, sp, #FRAME_BYTES
    ret
    .size   run_guest, . - run_guest
