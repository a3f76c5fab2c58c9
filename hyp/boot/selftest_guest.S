// A guest for hyp/boot/selftest.cpp: adds 1 to each register and calls its hypervisor, for ever. Copied, hence data.

    .section .rodata.selftest_guest, "a", %progbits
    .balign 8
    .globl  selftest_guest_start
    .hidden selftest_guest_start
selftest_guest_start:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
    add     x\n, x\n, #1
    .endr
    hvc     #0
    b       selftest_guest_start
    .globl  selftest_guest_end
    .hidden selftest_guest_end
selftest_guest_end:

// Where a CPU comes to whose firmware does not know EL2: secondary_entry, but at EL1. Runs with the MMU off.
    .section .text.selftest_at_el1, "ax", %progbits
    .globl  selftest_at_el1
    .hidden selftest_at_el1
selftest_at_el1:
    mov     x1, #0x80000000                 // HCR_EL2.RW
    msr     hcr_el2, x1
    mov     x1, #0x3c5                      // EL1h, all masked
    msr     spsr_el2, x1
    adrp    x1, secondary_entry
    add     x1, x1, :lo12:secondary_entry
    msr     elr_el2, x1
    isb
    eret
