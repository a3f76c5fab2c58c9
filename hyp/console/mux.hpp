// Several consoles on one terminal. Portable; characters leave through a port.
//
// With one VM its output passes as it is. With several, each line says whose it is: "name| text". The VM in focus is
// written character by character, so that prompts show; the others line by line. Weir's own lines start on a fresh line.
// Ctrl-] and then: a digit or `n` moves the focus, `s` asks for the summary, Ctrl-] passes itself on.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

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

  struct Vm {
    std::string_view name;
    std::array<char, kLine> line{};
    unsigned used = 0;
    std::array<char, kTypeAhead> typed{};
    unsigned first = 0;
    unsigned count = 0;
  };
  using Vms = std::array<Vm, kMaxVms>;

  // `vms` is for the mux alone: apart from it, so that it need not be in the image's file.
  constexpr ConsoleMux(MuxPort& port, Vms& vms) : port_{port}, vms_{vms} {}

  // Before its VM runs. Names outlive the mux. At most kMaxVms; returns the VM's number here.
  unsigned add(std::string_view name);

  void vm_output(unsigned vm, char c);
  // A whole line, newline included.
  void weir_line(std::string_view line);

  enum class Action : unsigned char { none, deliver, summary };
  // A typed character. `deliver`: it, or what waited, can be fetched for the VM in focus() now.
  [[nodiscard]] Action typed(char c);
  [[nodiscard]] unsigned focus() const { return focus_; }
  // The next typed character for `vm`; false if there is none.
  [[nodiscard]] bool next(unsigned vm, char& c);

 private:
  static constexpr unsigned kNobody = kMaxVms;

  void write(std::string_view text);
  void fresh_line();
  void flush(Vm& vm);
  void set_focus(unsigned vm);

  MuxPort& port_;
  Vms& vms_;
  SpinLock lock_;
  unsigned count_ = 0;
  unsigned focus_ = 0;
  unsigned line_of_ = kNobody;  // whose unfinished line the terminal is in
  bool hot_ = false;            // the hot key was typed
};

}  // namespace weir
