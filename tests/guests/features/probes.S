// One instruction of each feature, as a function of x0 = x1 = a value.
    .text
    .arch armv9.4-a+aes+sha2+sha3+sm4+crc+lse+rdm+dotprod+fp16+fp16fml+rng+rcpc+bf16+i8mm+flagm+sve+sve2+sme+memtag+ssbs+predres+mops+cssc+sb+pauth+wfxt+ras+lse128+rcpc3+the

    .macro  probe name, instruction:vararg
    .global probe_\name
probe_\name:
    \instruction
    ret
    .endm

    probe   aes, aese v0.16b, v1.16b
    probe   pmull, pmull v0.1q, v1.1d, v2.1d
    probe   sha1, sha1h s0, s1
    probe   sha256, sha256su0 v0.4s, v1.4s
    probe   sha512, sha512su0 v0.2d, v1.2d
    probe   sha3, eor3 v0.16b, v1.16b, v2.16b, v3.16b
    probe   sm3, sm3ss1 v0.4s, v1.4s, v2.4s, v3.4s
    probe   sm4, sm4e v0.4s, v1.4s
    probe   crc32, crc32b w0, w0, w1
    probe   atomics, ldadd w1, w2, [x0]
    probe   lse128, ldclrp x2, x3, [x0]
    probe   rdm, sqrdmlah v0.4h, v1.4h, v2.4h
    probe   dotprod, udot v0.4s, v1.16b, v2.16b
    probe   fhm, fmlal v0.4s, v1.4h, v2.4h
    probe   flagm, cfinv
    probe   flagm2, axflag
    probe   rng, mrs x0, S3_3_C2_C4_0
    probe   dpb, sys #3, c7, c12, #1, x0
    probe   dpb2, sys #3, c7, c13, #1, x0
    probe   pauth, pacia x0, x1
    probe   pacga, pacga x0, x0, x1
    probe   jscvt, fjcvtzs w0, d0
    probe   fcma, fcadd v0.4s, v1.4s, v2.4s, #90
    probe   lrcpc, ldapr w2, [x0]
    probe   lrcpc2, ldapur w2, [x0, #4]
    probe   frintts, frint32z s0, s1
    probe   sb, sb
    probe   specres, sys #3, c7, c3, #4, xzr
    probe   bf16, bfdot v0.4s, v1.8h, v2.8h
    probe   i8mm, smmla v0.4s, v1.16b, v2.16b
    probe   fp16, fadd h0, h1, h2
    probe   wfxt, wfet xzr
    probe   mops, setp [x0]!, x3!, xzr
    probe   cssc, abs x0, x0
    probe   sve, rdvl x0, #1
    probe   sve2, sqrdmlah z0.h, z1.h, z2.h
    probe   sme, rdsvl x0, #1
    probe   mte, irg x0, x0
    probe   mte2, mrs x0, S3_0_C1_C0_6
    probe   ssbs, mrs x0, S3_3_C4_C2_6
    probe   ras, mrs x0, S3_0_C5_C3_0
    probe   dit, mrs x0, S3_3_C4_C2_5
    probe   amu, mrs x0, S3_3_C13_C2_1
    probe   pan, mrs x0, S3_0_C4_C2_3
    probe   uao, mrs x0, S3_0_C4_C2_4
    probe   tcr2, mrs x0, S3_0_C2_C0_3
    probe   sctlr2, mrs x0, S3_0_C1_C0_3
    probe   s1pie, mrs x0, S3_0_C10_C2_3
    probe   s1poe, mrs x0, S3_0_C10_C2_4
    probe   aie, mrs x0, S3_0_C10_C3_1
    probe   lor, mrs x0, S3_0_C10_C4_3
    probe   pmu, mrs x0, S3_3_C9_C12_0
    probe   spe, mrs x0, S3_0_C9_C10_7
    probe   trbe, mrs x0, S3_0_C9_C11_7
    probe   trf, mrs x0, S3_0_C1_C2_1
    probe   brbe, mrs x0, S2_1_C9_C2_0
    probe   doublelock, mrs x0, S2_0_C1_C3_4
    probe   mpam, mrs x0, S3_0_C10_C5_0
    probe   gcs, mrs x0, S3_0_C2_C5_0
    probe   scxtnum, mrs x0, S3_0_C13_C0_7
    probe   ecv, mrs x0, S3_3_C14_C0_6
    probe   nmi, mrs x0, S3_0_C4_C3_0
    probe   the, mrs x0, S3_0_C13_C0_3
    probe   mpam0, mrs x0, S3_0_C10_C5_1
    probe   pmuserenr, mrs x0, S3_3_C9_C14_0
    probe   pmccntr, mrs x0, S3_3_C9_C13_0
    probe   amuserenr, mrs x0, S3_3_C13_C2_3
    probe   lorsa, mrs x0, S3_0_C10_C4_0
    probe   erxfr, mrs x0, S3_0_C5_C4_0
    probe   scxtnum0, mrs x0, S3_3_C13_C0_7
    probe   fpmr, mrs x0, S3_3_C4_C4_2
    probe   pfar, mrs x0, S3_0_C6_C0_5
    probe   accdata, mrs x0, S3_0_C13_C0_5
