// Barriers and hints. The suffix is the shareability domain: `sy` and `osh` where devices look on, `ish` among pCPUs.
#pragma once

namespace weir {

inline void isb() { asm volatile("isb" ::: "memory"); }
inline void dsb_sy() { asm volatile("dsb sy" ::: "memory"); }
inline void dsb_st() { asm volatile("dsb st" ::: "memory"); }
inline void dsb_ish() { asm volatile("dsb ish" ::: "memory"); }
inline void dsb_ishst() { asm volatile("dsb ishst" ::: "memory"); }
inline void dsb_nsh() { asm volatile("dsb nsh" ::: "memory"); }
inline void dmb_sy() { asm volatile("dmb sy" ::: "memory"); }
inline void dmb_oshst() { asm volatile("dmb oshst" ::: "memory"); }
inline void dmb_ish() { asm volatile("dmb ish" ::: "memory"); }
inline void wfi() { asm volatile("wfi" ::: "memory"); }
inline void wfe() { asm volatile("wfe" ::: "memory"); }
inline void sev() { asm volatile("sev" ::: "memory"); }

}  // namespace weir
