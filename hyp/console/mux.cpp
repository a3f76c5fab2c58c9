#include "hyp/console/mux.hpp"

namespace weir {

unsigned ConsoleMux::add(std::string_view name) {
  vms_[count_].name = name;
  return count_++;
}

// Terminals want CR LF; what already ends in it stays as it is.
void ConsoleMux::write(std::string_view text) {
  char last = 0;
  for (const char c : text) {
    if (c == '\n' && last != '\r') port_.put('\r');
    port_.put(c);
    last = c;
  }
}

void ConsoleMux::fresh_line() {
  if (line_of_ != kNobody) write("\n");
  line_of_ = kNobody;
}

void ConsoleMux::flush(Vm& vm) {
  fresh_line();
  write(vm.name);
  write("| ");
  write({vm.line.data(), vm.used});
  write("\n");
  vm.used = 0;
}

void ConsoleMux::vm_output(unsigned index, char c) {
  const SpinLock::Guard guard{lock_};
  Vm& vm = vms_[index];
  if (count_ == 1 || index == focus_) {
    if (line_of_ != index) {
      if (line_of_ != kNobody) fresh_line();
      if (count_ > 1 && c != '\r' && c != '\n') {
        write(vm.name);
        write("| ");
      }
    }
    port_.put(c);  // as it is: the guest sends its own CR
    if (c == '\n') {
      line_of_ = kNobody;
    } else if (c != '\r' || line_of_ == index) {
      line_of_ = index;
    }
    return;
  }
  if (c == '\n' || vm.used == kLine) flush(vm);
  if (c != '\n' && c != '\r') vm.line[vm.used++] = c;
}

void ConsoleMux::weir_line(std::string_view line) {
  const SpinLock::Guard guard{lock_};
  fresh_line();
  write(line);
}

void ConsoleMux::set_focus(unsigned vm) {
  if (vm >= count_) return;
  focus_ = vm;
  fresh_line();
  write("weir: console of ");
  write(vms_[vm].name);
  write("\n");
  if (vms_[vm].used == 0) return;
  // What it has of a line is shown, and goes on there.
  write(vms_[vm].name);
  write("| ");
  write({vms_[vm].line.data(), vms_[vm].used});
  vms_[vm].used = 0;
  line_of_ = vm;
}

ConsoleMux::Action ConsoleMux::typed(char c) {
  const SpinLock::Guard guard{lock_};
  if (!hot_ && c == kHotKey) {
    hot_ = true;
    return Action::none;
  }
  if (hot_ && c != kHotKey) {
    hot_ = false;
    if (c == 's') return Action::summary;
    if (c == 'n') set_focus(focus_ + 1 < count_ ? focus_ + 1 : 0);
    if (c >= '0' && c <= '9') set_focus(static_cast<unsigned>(c - '0'));
    return Action::none;
  }
  hot_ = false;
  Vm& vm = vms_[focus_];
  if (count_ == 0 || vm.count == kTypeAhead) return Action::none;
  vm.typed[(vm.first + vm.count++) % kTypeAhead] = c;
  return Action::deliver;
}

bool ConsoleMux::next(unsigned index, char& c) {
  const SpinLock::Guard guard{lock_};
  Vm& vm = vms_[index];
  if (vm.count == 0) return false;
  c = vm.typed[vm.first];
  vm.first = (vm.first + 1) % kTypeAhead;
  --vm.count;
  return true;
}

}  // namespace weir
