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
