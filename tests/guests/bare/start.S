// Entry at EL1 with the MMU off and x0 = devicetree, as Weir or any arm64 boot loader leaves it; exception vectors.
// Position-independent: a raw payload runs wherever it is put.

    .section .head, "ax", %progbits
    .global _start
_start:
    b       entry                       // arm64 Image header, so that QEMU's -kernel takes it, too
    .long   0
    .quad   0                           // text_offset
    .quad   0x400000                    // image_size: more than any of them has
    .quad   0xa                         // little-endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

entry:
    hint    #122                        // the payload's first instruction, for tests/bench/count.c
    msr     daifset, #0xf
    mov     x19, x0
    adr     x1, _start                  // linked at 0: the load address
    adrp    x2, __rela_start
    add     x2, x2, :lo12:__rela_start
    adrp    x3, __rela_end
    add     x3, x3, :lo12:__rela_end
1:  cmp     x2, x3                      // all of them R_AARCH64_RELATIVE
    b.hs    2f
    ldp     x4, x5, [x2], #16
    ldr     x6, [x2], #8
    add     x6, x6, x1
    str     x6, [x1, x4]
    b       1b
2:  adrp    x2, __stack_top
    add     x2, x2, :lo12:__stack_top
    mov     sp, x2
    bl      init_cpu
    mov     x0, x19
    bl      start
3:  wfi
    b       3b

// Where PSCI CPU_ON starts another CPU: x0 -> { stack, function, argument }, in memory that no cache hides.
    .global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    bl      init_cpu
    adrp    x0, translation_table
    add     x0, x0, :lo12:translation_table
    bl      mmu_on
    ldr     x2, [x19]
    mov     sp, x2
    ldp     x1, x0, [x19, #8]
    blr     x1
3:  wfi
    b       3b

init_cpu:
    adrp    x0, vectors
    add     x0, x0, :lo12:vectors
    msr     vbar_el1, x0
    mov     x0, #(3 << 20)              // CPACR_EL1.FPEN
    msr     cpacr_el1, x0
    isb
    ret

// x0: level-1 table of 1 GiB entries for 39 bits of address. Uses no memory.
    .global mmu_on
mmu_on:
    mov     x1, #0xff00                 // MAIR: 0 Device-nGnRnE, 1 Normal write-back
    msr     mair_el1, x1
    ldr     x1, =0x200803519            // TCR: T0SZ 25, inner shareable, write-back walks, EPD1, 4 KiB, IPS 40 bits
    msr     tcr_el1, x1
    msr     ttbr0_el1, x0
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    mrs     x1, sctlr_el1
    mov     x2, #0x1005                 // M, C, I
    orr     x1, x1, x2
    bic     x1, x1, #2                  // A: unaligned accesses to normal memory are fine
    msr     sctlr_el1, x1
    isb
    ret

    .text
    .balign 2048
vectors:
    .set    n, 0
    .rept   16
    .balign 128
    sub     sp, sp, #(36 * 8)
    stp     x0, x1, [sp]
    mov     x0, #n
    b       exception
    .set    n, n + 1
    .endr

exception:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, elr_el1
    stp     x30, x1, [sp, #240]
    mrs     x1, spsr_el1
    mrs     x2, esr_el1
    stp     x1, x2, [sp, #256]
    mrs     x1, far_el1
    str     x1, [sp, #272]
    mov     x1, sp
    bl      on_exception
    ldp     x0, x1, [sp, #248]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    ldp     x0, x1, [sp]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    add     sp, sp, #(36 * 8)
    eret
