// Entry from the boot loader (arm64 Linux boot protocol) and, for the other pCPUs, from PSCI CPU_ON.
//
// All of this file lies in the image's first page. Until the MMU is on it runs at whatever physical address the image was
// loaded to, so it addresses everything relative to the PC; that page alone is also mapped one to one (read-only,
// executable), so that the MMU can be switched on from it.

#define SCTLR_EL2_OFF   0x30c50830          // SctlrEl2::reset(): the RES1 bits; MMU, caches, checks off
#define HCR_EL2_BOOT    0x80000038          // RW: EL1 is AArch64; AMO, IMO, FMO: interrupts come here. All else off
#define HCR_EL2_E2H_BIT 34
#define CPTR_EL2_BOOT   0x33ff              // the RES1 bits; SVE and SME trap until hyp/cpu decides
#define LINK_BASE       0xff0000000000      // hyp/boot/weir.lds, hyp/boot/image.hpp
#define CNTHCTL_EL2_BOOT 3                  // EL1PCTEN, EL1PCEN: counter and timer untrapped

    .section .head.text, "ax", %progbits
    .globl  image_header
image_header:
    b       primary_entry
    .long   0
    .quad   0                               // text_offset
    .quad   __image_end - image_header      // with .bss
    .quad   0xa                             // little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// Puts EL2 into a known state: anything may have run here before. The registers that depend on optional features are
// hyp/cpu's. Uses x1, x2. Parks unless at EL2 with E2H = 0 (or clearable).
    .macro  init_el2
    msr     daifset, #0xf
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    early_park
    movz    x1, #(HCR_EL2_BOOT >> 16), lsl #16
    movk    x1, #(HCR_EL2_BOOT & 0xffff)
    msr     hcr_el2, x1                     // first: E2H redefines the registers below
    isb
    mrs     x1, hcr_el2
    tbnz    x1, #HCR_EL2_E2H_BIT, early_park
    movz    x1, #(SCTLR_EL2_OFF >> 16), lsl #16
    movk    x1, #(SCTLR_EL2_OFF & 0xffff)
    msr     sctlr_el2, x1
    isb
    adr     x1, early_vectors
    msr     vbar_el2, x1
    mov     x1, #CPTR_EL2_BOOT
    msr     cptr_el2, x1
    mov     x1, #CNTHCTL_EL2_BOOT
    msr     cnthctl_el2, x1
    msr     cntvoff_el2, xzr
    msr     cnthp_ctl_el2, xzr
    msr     hstr_el2, xzr
    msr     hacr_el2, xzr
    msr     vttbr_el2, xzr
    msr     vtcr_el2, xzr
    msr     tpidr_el2, xzr
    mrs     x1, midr_el1
    msr     vpidr_el2, x1
    mrs     x1, mpidr_el1
    msr     vmpidr_el2, x1
    mrs     x1, id_aa64dfr0_el1             // MDCR_EL2: no traps, all event counters the guest's
    ubfx    x1, x1, #8, #4                  // PMUVer: 0 and 0xf mean no Arm PMU
    mov     x2, xzr
    cbz     x1, 1f
    cmp     x1, #0xf
    b.eq    1f
    mrs     x2, pmcr_el0
    ubfx    x2, x2, #11, #5                 // HPMN = PMCR_EL0.N
1:  msr     mdcr_el2, x2
    msr     spsel, #1
    isb
    .endm

// reg = the link address of a symbol of the image, from wherever this runs. Uses x9.
    .macro  link_address reg, symbol
    adrp    \reg, \symbol
    add     \reg, \reg, :lo12:\symbol
    adrp    x9, image_header
    sub     \reg, \reg, x9
    mov     x9, #LINK_BASE
    add     \reg, \reg, x9
    .endm

// Loops over [x0, x1) by cache lines of x2 bytes.
    .macro  by_line, op
    sub     x3, x2, #1
    bic     x4, x0, x3
9:  dc      \op, x4
    add     x4, x4, x2
    cmp     x4, x1
    b.lo    9b
    dsb     sy
    .endm

primary_entry:
    mov     x20, x0                         // the devicetree
    init_el2

    // With the MMU off stores bypass the caches. Drop what may be dirty there first, what may be stale afterwards.
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4
    mov     x3, #4
    lsl     x2, x3, x2
    mov     x21, x2
    adrp    x0, image_header
    adrp    x1, __image_end
    by_line civac

    adrp    x0, __bss_start
    adrp    x1, __bss_end
2:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    2b

    adrp    x0, __boot_stack_top
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    adrp    x0, image_header
    bl      early_patch_image               // hyp/boot/early_patch.cpp, position independent; no atomics before it
    tbz     w0, #0, early_park
    adrp    x0, image_header
    bl      early_build_tables              // hyp/boot/early_mmu.cpp, position independent
    mov     x19, x0                         // -> MmuRegisters

    adrp    x0, image_header                // the text, too: instructions may have been replaced
    adrp    x1, __image_end
    mov     x2, x21
    by_line ivac

    mov     x0, x19
    adrp    x22, image_header               // where the image was loaded to
    link_address x2, 3f
    b       enable_mmu
3:  adrp    x0, __boot_stack_top
    mov     sp, x0
    adrp    x0, exception_vectors
    add     x0, x0, :lo12:exception_vectors
    msr     vbar_el2, x0
    isb
    mov     x29, xzr
    bl      boot_thread_pointer             // hyp/arch/pcpu.cpp
    msr     tpidr_el2, x0                   // here, for a compiler may read it early
    mov     x0, x20
    mov     x1, x22
    mov     x30, xzr
    b       boot_main                       // hyp/boot/boot_main.cpp

// x0 -> SecondaryStart, by its physical address.
    .globl  secondary_entry
secondary_entry:
    mov     x20, x0
    init_el2
    ldp     x22, x23, [x20]                 // stack, thread pointer
    ldr     x24, [x20, #16]                 // its Pcpu
    adrp    x0, mmu_registers
    add     x0, x0, :lo12:mmu_registers
    link_address x2, 4f
    b       enable_mmu
4:  mov     sp, x22
    msr     tpidr_el2, x23
    adrp    x0, exception_vectors
    add     x0, x0, :lo12:exception_vectors
    msr     vbar_el2, x0
    isb
    mov     x0, x24
    mov     x29, xzr
    mov     x30, xzr
    b       secondary_main                  // hyp/arch/pcpu.cpp

// x0 -> MmuRegisters, x2 = link address to go on at.
enable_mmu:
    ldp     x3, x4, [x0]                    // MAIR, TCR
    ldp     x5, x6, [x0, #16]               // TTBR0, SCTLR
    msr     mair_el2, x3
    msr     tcr_el2, x4
    msr     ttbr0_el2, x5
    isb
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x6
    isb
    br      x2

early_park:
    wfi
    b       early_park

// Nothing can be said yet: stay where it happened.
    .balign 2048
early_vectors:
    .rept   16
    .balign 128
    b       .
    .endr
