/*
 * Weir's hypercalls for drivers of guests: plain C11 (and C++), nothing else included. hypercalls.md explains the calls.
 *
 * HVC #0, function in W0, arguments from X1 on (SMC Calling Convention, Arm DEN 0028). Results are in X0 to X3; a call
 * changes no other register.
 */
#ifndef WEIR_HYPERCALLS_H
#define WEIR_HYPERCALLS_H

#define WEIR_CALL_UID 0x8600ff01u      /* -> W0 to W3: WEIR_UID_0 to WEIR_UID_3 */
#define WEIR_CALL_REVISION 0x8600ff03u /* -> W0: major, W1: minor */

#define WEIR_UID_0 0x111924d4u
#define WEIR_UID_1 0xcf480434u
#define WEIR_UID_2 0xb5fe64bbu
#define WEIR_UID_3 0x96e8b93eu

/* The revision that this header describes. */
#define WEIR_REVISION_MAJOR 0u
#define WEIR_REVISION_MINOR 3u

/* X0 of all calls below is one of WEIR_SUCCESS to WEIR_CANNOT_SPLIT. */
#define WEIR_CALL_FEATURES 0xc6000001u    /* -> X1: WEIR_FEATURE_*, X2: page limits */
#define WEIR_CALL_VM_ID 0xc6000002u       /* n -> X1: id */
#define WEIR_CALL_LOAN_WINDOW 0xc6000003u /* -> X1: first IPA, X2: bytes */
#define WEIR_CALL_RELINQUISH 0xc6000010u  /* ipa, pages -> X1: pages done */
#define WEIR_CALL_RECLAIM 0xc6000011u     /* ipa, pages -> X1: pages done */
#define WEIR_CALL_SHARE 0xc6000012u       /* ipa, pages, peer, WEIR_GRANT_*, handle or 0 -> X1: pages done, X2: handle */
#define WEIR_CALL_LEND 0xc6000013u        /* as WEIR_CALL_SHARE */
#define WEIR_CALL_ACCEPT 0xc6000014u      /* handle, ipa, pages -> X1: pages done */
#define WEIR_CALL_RELEASE 0xc6000015u     /* handle -> X1: pages left */
#define WEIR_CALL_TAKE_BACK 0xc6000016u   /* handle -> X1: pages left */
#define WEIR_CALL_DIRTY_START 0xc6000020u /* -> X1: pages left, X2: WEIR_DIRTY_LIMIT_* */
#define WEIR_CALL_DIRTY_READ 0xc6000021u  /* ipa, pages, bitmap, WEIR_DIRTY_* -> X1: pages done, X2: WEIR_DIRTY_LIMIT_* */
#define WEIR_CALL_DIRTY_STOP 0xc6000022u  /* -> X1: pages left */

/* Results, in X0 as signed 64-bit numbers. */
#define WEIR_SUCCESS 0
#define WEIR_NOT_SUPPORTED (-1)
#define WEIR_INVALID (-2)
#define WEIR_DENIED (-3)
#define WEIR_NO_MEMORY (-4)
#define WEIR_BUSY (-5)
#define WEIR_WRONG_STATE (-6)
#define WEIR_LIMIT (-7)
#define WEIR_CANNOT_SPLIT (-8)

#define WEIR_PAGE_BYTES 0x1000u

/* X1 of WEIR_CALL_FEATURES. */
#define WEIR_FEATURE_MEMORY 0x1ull
#define WEIR_FEATURE_GRANTS 0x2ull
#define WEIR_FEATURE_DIRTY_LOG 0x4ull

/* X2 of WEIR_CALL_FEATURES. */
#define WEIR_LIMIT_PER_CALL(x2) ((x2) & 0xffffffffull)
#define WEIR_LIMIT_GRANTS(x2) ((x2) >> 32 & 0xffffull)
#define WEIR_LIMIT_ACCEPTED(x2) ((x2) >> 48 & 0xffffull)

/* X4 of WEIR_CALL_SHARE and WEIR_CALL_LEND. */
#define WEIR_GRANT_WRITE 0x1ull

/* X4 of WEIR_CALL_DIRTY_READ. */
#define WEIR_DIRTY_SEEN_ONLY 0x1ull

/* X2 of WEIR_CALL_DIRTY_START and WEIR_CALL_DIRTY_READ. */
#define WEIR_DIRTY_LIMIT_DEVICES 0x1ull
#define WEIR_DIRTY_LIMIT_PEERS 0x2ull

#endif
