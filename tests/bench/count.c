// A plugin for QEMU that counts what is executed: instructions of EL2, of the guest's kernel and of its programs; and of EL2 the
// instructions whose price their number does not show. A guest marks what it wants counted with two hints that do nothing:
// HINT #120 opens a window, HINT #121 closes it and writes a line; HINT #122 writes what was executed since the machine was
// switched on. Unlike a counter's difference this has no idle time in it.
// For machines of one CPU: with more of them and -icount, QEMU 11.1 crashes in the instrumented code.
//
//   -plugin build/bench/count.so,el2=FIRST-LAST,out=FILE     addresses of EL2's code, hexadecimal
//
// QEMU's plugin interface, version 7, as far as it is used here.
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  struct qemu_plugin_scoreboard* score;
  size_t offset;
} qemu_plugin_u64;
enum { NO_REGISTERS = 0 };  // enum qemu_plugin_cb_flags
enum { INLINE_ADD = 0 };    // enum qemu_plugin_op
enum { READ_WRITE = 3 };    // enum qemu_plugin_mem_rw
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;

struct qemu_plugin_scoreboard* qemu_plugin_scoreboard_new(size_t);
uint64_t qemu_plugin_u64_sum(qemu_plugin_u64);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*)(struct qemu_plugin_tb*, void*), void*);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn*);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn*, void*, size_t);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, void (*)(unsigned, void*), int, void*);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn*, int, qemu_plugin_u64, uint64_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn*, void (*)(unsigned, uint32_t, uint64_t, void*), int, int, void*);
struct qemu_plugin_hwaddr* qemu_plugin_get_hwaddr(uint32_t, uint64_t);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr*);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr*);
bool qemu_plugin_mem_is_store(uint32_t);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 7;

enum {
  el2,
  kernel,
  user,
  el2_dsb,
  el2_dmb,
  el2_isb,
  el2_at,
  el2_tlbi,
  el2_atomic,  // exclusives and single-copy atomics
  el2_system,  // MRS and MSR
  el2_eret,
  el2_first_memory,
  el2_smmu_read = el2_first_memory,
  el2_smmu_write,
  el2_mmio_read,  // of other devices
  el2_mmio_write,
  kinds
};
static const char* const names[kinds] = {"el2", "kernel", "user", "dsb", "dmb", "isb", "at", "tlbi", "atomic", "system", "eret",
                                         "smmu_read", "smmu_write", "mmio_read", "mmio_write"};
static qemu_plugin_u64 counters[kinds];
static uint64_t memory[kinds], opened[kinds];
static uint64_t el2_first, el2_last;
static FILE* out;

static uint64_t value(int kind) { return kind < el2_first_memory ? qemu_plugin_u64_sum(counters[kind]) : memory[kind]; }

static void open_window(unsigned cpu, void* data) {
  (void)cpu, (void)data;
  for (int k = 0; k < kinds; ++k) opened[k] = value(k);
}
static void print_since(const char* word, const uint64_t* start) {
  fprintf(out, "%s", word);
  for (int k = 0; k < kinds; ++k) fprintf(out, " %s=%" PRIu64, names[k], value(k) - start[k]);
  fprintf(out, "\n");
  fflush(out);
}
static void close_window(unsigned cpu, void* data) {
  (void)cpu, (void)data;
  print_since("window", opened);
}
static void mark(unsigned cpu, void* data) {
  static const uint64_t nothing[kinds];
  (void)cpu, (void)data;
  print_since("mark", nothing);
}

static void access(unsigned cpu, uint32_t info, uint64_t address, void* data) {
  (void)cpu, (void)data;
  const struct qemu_plugin_hwaddr* at = qemu_plugin_get_hwaddr(info, address);
  if (!at || !qemu_plugin_hwaddr_is_io(at)) return;
  const uint64_t pa = qemu_plugin_hwaddr_phys_addr(at);
  // What QEMU says of I/O is an address in the machine or, in some versions, in the device's region: the virtual address
  // tells then, as Weir's direct map ends in the same bits.
  const uint64_t low = (pa >= 0x8000000 ? pa : address) & 0xffffffff;
  const bool smmu = low >= 0x0c000000 && low < 0x0c200000, store = qemu_plugin_mem_is_store(info);
  ++memory[smmu ? (store ? el2_smmu_write : el2_smmu_read) : (store ? el2_mmio_write : el2_mmio_read)];
}

static int kind_of(uint32_t op) {
  switch (op & 0xfffff0ff) {
    case 0xd503309f: return el2_dsb;
    case 0xd50330bf: return el2_dmb;
    case 0xd50330df: return el2_isb;
  }
  if ((op & 0xfff8fe00) == 0xd5087800) return el2_at;    // SYS, CRn 7, CRm 8 or 9
  if ((op & 0xfff8f000) == 0xd5088000) return el2_tlbi;  // CRn 8
  if ((op & 0xffd00000) == 0xd5100000) return el2_system;
  if (op == 0xd69f03e0) return el2_eret;
  if ((op & 0x3f000000) == 0x08000000 && !(op & 0x00800000)) return el2_atomic;                    // LDXR, STXR, CASP
  if ((op & 0x3fa07c00) == 0x08a07c00) return el2_atomic;                                          // CAS
  if ((op & 0x3f200c00) == 0x38200000 && (op & 0x0000f000) != 0x0000c000) return el2_atomic;       // LDADD and its kind, SWP
  return -1;
}

static void count(struct qemu_plugin_insn* insn, int kind) {
  qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD, counters[kind], 1);
}

static void translated(struct qemu_plugin_tb* tb, void* data) {
  (void)data;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
    struct qemu_plugin_insn* insn = qemu_plugin_tb_get_insn(tb, i);
    const uint64_t at = qemu_plugin_insn_vaddr(insn);
    uint32_t op = 0;
    (void)qemu_plugin_insn_data(insn, &op, sizeof op);
    if (at >= el2_first && at <= el2_last) {
      count(insn, el2);
      if (kind_of(op) >= 0) count(insn, kind_of(op));
      qemu_plugin_register_vcpu_mem_cb(insn, access, NO_REGISTERS, READ_WRITE, NULL);
    } else {
      count(insn, at >> 63 ? kernel : user);
      if (op == 0xd5032f1f) qemu_plugin_register_vcpu_insn_exec_cb(insn, open_window, NO_REGISTERS, NULL);   // HINT #120
      if (op == 0xd5032f3f) qemu_plugin_register_vcpu_insn_exec_cb(insn, close_window, NO_REGISTERS, NULL);  // HINT #121
      if (op == 0xd5032f5f) qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, NO_REGISTERS, NULL);          // HINT #122
    }
  }
}

EXPORT int qemu_plugin_install(uint64_t id, const void* info, int argc, char** argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    if (sscanf(argv[i], "el2=%" SCNx64 "-%" SCNx64, &el2_first, &el2_last) == 2) continue;
    if (strncmp(argv[i], "out=", 4) == 0) out = fopen(argv[i] + 4, "w");
  }
  if (!out) {
    fprintf(stderr, "count: out=FILE is missing or cannot be written\n");
    return -1;
  }
  struct qemu_plugin_scoreboard* score = qemu_plugin_scoreboard_new(kinds * sizeof(uint64_t));
  for (int k = 0; k < kinds; ++k) counters[k] = (qemu_plugin_u64){score, (size_t)k * sizeof(uint64_t)};
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
  return 0;
}
