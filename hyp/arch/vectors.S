// EL2's exception vectors and the world switch.

    .section .text, "ax", %progbits

// Exceptions of EL2 itself: never expected. The registers go to the pCPU's emergency frame (its address is the word
// behind the thread pointer, see hyp/arch/pcpu.cpp), because SP may be what is broken. SP_EL0, the guest's, is scratch.
    .macro  el2_exception kind
    .balign 128
    msr     sp_el0, x0
    mrs     x0, tpidr_el2
    cbz     x0, .                           // before per-pCPU data: nothing can be done
    ldr     x0, [x0, #8]
    str     x1, [x0, #8]
    mov     x1, #\kind
    b       el2_panic
    .endm

// Exceptions of the guest, from AArch64 and AArch32 alike.
    .macro  guest_exception kind
    .balign 128
    stp     x0, x1, [sp, #-16]!
    mov     w1, #\kind
    b       guest_exit
    .endm

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

// x0 -> PanicFrame, holding x1; x1 = vector; SP_EL0 holds x0.
el2_panic:
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    mov     x2, sp
    stp     x30, x2, [x0, #240]             // x30, SP
    mrs     x2, sp_el0
    str     x2, [x0]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [x0, #256]
    mrs     x2, esr_el2
    mrs     x3, far_el2
    stp     x2, x3, [x0, #272]
    mov     sp, x0                          // the emergency stack grows down from the frame
    mov     x29, xzr
    mov     x30, xzr
    b       el2_exception_panic             // hyp/panic; does not return

// void run_guest(GuestRegisters*, bool (*exited)(void* context, ExitKind), void* context)
// What the compiler wants kept across the call is saved once; between two entries `exited` keeps to its own frame. The
// pair of x29 and x30 is also the frame record that a backtrace of `exited` goes on with.
    .equ    FRAME_RECORD, 80
    .equ    FRAME_REGISTERS, 96
    .equ    FRAME_EXITED, 104               // and behind it the context
    .equ    FRAME_BYTES, 128
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
enter_guest:                                // x0 -> GuestRegisters
    ldp     x2, x3, [x0, #248]              // PC, PSTATE
    msr     elr_el2, x2
    msr     spsr_el2, x3
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldr     x30, [x0, #240]
    ldp     x0, x1, [x0]
    eret
    dsb     nsh                             // no speculation past the ERET
    isb

guest_exit:                                 // x1 = ExitKind; [sp] = guest x0, x1
    ldr     x0, [sp, #(16 + FRAME_REGISTERS)]
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x30, x2, [x0, #240]
    str     x3, [x0, #256]
    ldp     x4, x5, [sp], #16
    stp     x4, x5, [x0]
    add     x29, sp, #FRAME_RECORD
    ldp     x2, x0, [sp, #FRAME_EXITED]
    blr     x2
    mov     w1, w0
    ldr     x0, [sp, #FRAME_REGISTERS]
    cbnz    w1, enter_guest
    ldp     x19, x20, [sp]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #FRAME_RECORD]
    add     sp, sp, #FRAME_BYTES
    ret
    .size   run_guest, . - run_guest
