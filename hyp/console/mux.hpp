// Several consoles on one terminal. Portable; characters leave through a port.
//
// A guest's line begins with "name| " and holds plain text only (plain_text.hpp), also where there is a single VM: a line
// that begins otherwise is Weir's, and no guest can make one. The VM in focus is written as it comes, so that prompts
// show; the others line by line. Weir's own lines start on a fresh line, and what they came into the middle of is shown
// again behind them.
//
// In raw mode, for editors and shells, the terminal is the focused VM's alone: its bytes pass as they are. Nothing else
// is shown meanwhile: other VMs' lines and Weir's are kept, and follow when raw mode ends.
//
// Ctrl-] and then: a digit or `n` moves the focus, `r` starts and ends raw mode, `s` asks for the summary, `k` and then
// `y` ends the VM in focus, Ctrl-] passes itself on. Any of these but the last ends raw mode.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "hyp/console/plain_text.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

class MuxPort {
 public:
  virtual void put(char c) = 0;

 protected:
  ~MuxPort() = default;
};

class ConsoleMux {
 public:
  static constexpr unsigned kMaxVms = 8;
  static constexpr char kHotKey = 0x1d;  // Ctrl-]

  static constexpr unsigned kLine = 240;
  static constexpr unsigned kTypeAhead = 256;
  static constexpr unsigned kKept = 4096;  // bytes of lines that wait for the end of raw mode: the last ones

  struct Vm {
    std::string_view name;
    PlainText filter;
    std::array<char, kLine> line{};
    unsigned used = 0;
    std::array<char, kTypeAhead> typed{};
    unsigned first = 0;
    unsigned count = 0;
  };
  struct Storage {
    std::array<Vm, kMaxVms> vms{};
    std::array<char, kKept> kept{};
  };

  // `storage` is for the mux alone: apart from it, so that it need not be in the image's file.
  constexpr ConsoleMux(MuxPort& port, Storage& storage) : port_{port}, vms_{storage.vms}, kept_{storage.kept} {}

  // Before its VM runs. Names outlive the mux. At most kMaxVms; returns the VM's number here.
  unsigned add(std::string_view name);

  void vm_output(unsigned vm, char c);
  // A whole line, newline included.
  void weir_line(std::string_view line);

  enum class Action : unsigned char {
    none,
    deliver,  // what was typed can be fetched for the VM in focus() now
    summary,
    end_vm  // the VM in focus() is to be ended; this was confirmed
  };
  // A typed character.
  [[nodiscard]] Action typed(char c);
  [[nodiscard]] unsigned focus() const { return focus_; }
  // The next typed character for `vm`; false if there is none.
  [[nodiscard]] bool next(unsigned vm, char& c);

  // The terminal is `vm`'s alone from now on.
  void start_raw(unsigned vm);
  // `vm` has stopped: if it has the terminal for itself, others may use it again.
  void stopped(unsigned vm);

 private:
  static constexpr unsigned kNone = kMaxVms;
  enum class Keys : unsigned char { plain, hot, confirm };

  void write(std::string_view text);
  void fresh_line();
  void end_line(unsigned vm);
  void append(unsigned vm, std::string_view text);
  void go_on(unsigned vm);
  void say(std::string_view text, std::string_view name, std::string_view rest);
  void show(std::string_view text);
  void set_focus(unsigned vm);
  void enter_raw();
  void leave_raw();
  [[nodiscard]] Action command(char c);
  [[nodiscard]] Action pass_on(char c);

  MuxPort& port_;
  std::array<Vm, kMaxVms>& vms_;
  std::array<char, kKept>& kept_;
  SpinLock lock_;
  unsigned count_ = 0;
  unsigned focus_ = 0;
  unsigned line_of_ = kNone;  // whose unfinished line the terminal is in
  Keys keys_ = Keys::plain;
  bool raw_ = false;
  std::size_t kept_bytes_ = 0;  // in all since raw mode began; the last kKept of them are there
};

}  // namespace weir
