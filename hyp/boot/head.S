// Entry from the boot loader (arm64 Linux boot protocol) and, for the other pCPUs, from PSCI CPU_ON.
//
// All of this file lies in the image's first page. Until the MMU is on it runs at whatever physical address the image was
// loaded to, so it addresses everything relative to the PC; that page alone is also mapped one to one (read-only,
// executable), so that the MMU can be switched on from it.

#include "hyp/panic/frame.inc"

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
// hyp/cpu's. Uses x1, x2; keeps x20. Goes to wrong_level or only_vhe unless at EL2 with E2H = 0 (or clearable), with w19 =
// \secondary: then the devicetree in x20 is none.
    .macro  init_el2 secondary
    msr     daifset, #0xf
    msr     spsel, #1
    msr     tpidrro_el0, xzr                // no exception yet: see early_exception
    mov     w19, #\secondary
    adr     x2, early_vectors
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    wrong_level
    msr     vbar_el2, x2
    movz    x1, #(HCR_EL2_BOOT >> 16), lsl #16
    movk    x1, #(HCR_EL2_BOOT & 0xffff)
    msr     hcr_el2, x1                     // first: E2H redefines the registers below
    isb
    mrs     x1, hcr_el2
    tbnz    x1, #HCR_EL2_E2H_BIT, only_vhe
    movz    x1, #(SCTLR_EL2_OFF >> 16), lsl #16
    movk    x1, #(SCTLR_EL2_OFF & 0xffff)
    msr     sctlr_el2, x1
    isb
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
    init_el2 0

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
    mov     x0, x20
    bl      early_start                     // hyp/early/start.cpp: finds a UART; stops if Weir cannot run here
    adrp    x0, image_header
    bl      early_patch_image               // hyp/boot/early_patch.cpp, position independent; no atomics before it
    tbz     w0, #0, unpatched
    adrp    x0, image_header
    bl      early_build_tables              // hyp/early/tables.cpp
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
    init_el2 1
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

wrong_level:                                // x1 = CurrentEL, x2 = early_vectors
    b.hi    1f
    msr     vbar_el1, x2
    b       2f
1:  msr     vbar_el3, x2
2:  isb
    adrp    x0, __early_stack_top
    mov     sp, x0
    lsr     x2, x1, #2
    mov     x0, x20
    mov     w1, w19
    b       early_wrong_level               // hyp/early/start.cpp

only_vhe:
    adrp    x0, __early_stack_top
    mov     sp, x0
    mov     x0, x20
    mov     w1, w19
    b       early_only_vhe                  // hyp/early/start.cpp

unpatched:
    b       early_unpatched                 // hyp/early/start.cpp

early_park:
    wfi
    b       early_park

// uint32_t early_probe(uint64_t at): a 32-bit read, or ~0 if it ends in an exception. With the MMU off.
    .globl  early_probe
    .hidden early_probe
early_probe:
    ldr     w0, [x0]
    ret

// An exception before exception_vectors is in place, at EL1 to EL3. SP_EL0 holds x0, TPIDR_EL0 x1; x1 = vector. TPIDRRO_EL0
// tells a second one, which parks: nothing is in memory yet that could. The frame and the stack below it are not for two CPUs
// at once: CPUs are started one after the other, and the one that starts them has vectors of its own.
early_exception:
    msr     tpidr_el1, x2
    mrs     x2, CurrentEL
    cmp     x2, #(2 << 2)
    b.hi    3f
    b.lo    1f
    mrs     x0, sctlr_el2                   // it may just have been switched on
    bic     x0, x0, #1                      // M
    bic     x0, x0, #4                      // C
    msr     sctlr_el2, x0
    isb
    mrs     x0, elr_el2
    b       4f
1:  mrs     x0, elr_el1
    b       4f
3:  mrs     x0, elr_el3
4:  adr     x2, early_probe
    cmp     x0, x2
    b.ne    5f
    mov     w0, #-1
    ret
5:  mrs     x0, tpidrro_el0
    cbnz    x0, early_park
    mov     x0, #1
    msr     tpidrro_el0, x0
    adrp    x0, __early_stack_top
    sub     x0, x0, #FRAME_SPACE
    mrs     x2, tpidr_el1
    save_frame
    mrs     x2, CurrentEL
    cmp     x2, #(2 << 2)
    b.hi    3f
    b.lo    1f
    save_syndrome el2
    b       4f
1:  save_syndrome el1
    b       4f
3:  save_syndrome el3
4:  mov     sp, x0
    mov     x19, x0
    mov     x20, x1
    bl      early_guess                     // hyp/early/start.cpp
    mov     x0, x19
    mov     x1, x20
    mrs     x2, CurrentEL
    lsr     x2, x2, #2
    bl      early_exception_report          // hyp/early/words.cpp
    b       early_park

    .macro  early_vector number
    .balign 128
    msr     sp_el0, x0
    msr     tpidr_el0, x1
    mov     x1, #\number
    b       early_exception
    .endm

    .balign 2048
early_vectors:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    early_vector \n
    .endr
