#include "hyp/console/mux.hpp"

namespace weir {

unsigned ConsoleMux::add(std::string_view name) {
  vms_[count_].name = name;
  return count_++;
}

void ConsoleMux::write(std::string_view text) {
  for (const char c : text) {
    if (c == '\n') port_.put('\r');  // terminals want both
    port_.put(c);
  }
}

void ConsoleMux::fresh_line() {
  if (line_of_ != kNone) write("\n");
  line_of_ = kNone;
}

void ConsoleMux::end_line(unsigned index) {
  Vm& vm = vms_[index];
  if (line_of_ == index) {
    vm.used = 0;
    return fresh_line();
  }
  fresh_line();
  show(vm.name);
  show("| ");
  show({vm.line.data(), vm.used});
  show("\n");
  vm.used = 0;
}

void ConsoleMux::append(unsigned index, std::string_view text) {
  if (text.empty()) return;
  Vm& vm = vms_[index];
  if (vm.used + text.size() > kLine) end_line(index);
  if (index == focus_) {
    go_on(index);
    write(text);
  }
  for (const char c : text) vm.line[vm.used++] = c;
}

// A line that another came into the middle of is shown from its start again: each is whole somewhere.
void ConsoleMux::go_on(unsigned index) {
  if (line_of_ == index) return;
  fresh_line();
  write(vms_[index].name);
  write("| ");
  write({vms_[index].line.data(), vms_[index].used});
  line_of_ = index;
}

void ConsoleMux::vm_output(unsigned index, char c) {
  const SpinLock::Guard guard{lock_};
  if (raw_ && index == focus_) return port_.put(c);
  const PlainText::Piece piece = vms_[index].filter.feed(c);
  // A CR at the start of a line has nothing to go back over.
  const bool empty = line_of_ != index && vms_[index].used == 0;
  if (piece.line == PlainText::Break::before && !empty) end_line(index);
  append(index, piece.view());
  if (piece.line == PlainText::Break::after) end_line(index);
}

void ConsoleMux::weir_line(std::string_view line) {
  const SpinLock::Guard guard{lock_};
  fresh_line();
  show(line);
}

// On the terminal, or for the time after raw mode.
void ConsoleMux::show(std::string_view text) {
  if (!raw_) return write(text);
  for (const char c : text) kept_[kept_bytes_++ % kKept] = c;
}

void ConsoleMux::say(std::string_view text, std::string_view name, std::string_view rest) {
  fresh_line();
  write("weir: ");
  write(text);
  write(name);
  write(rest);
  write("\n");
}

void ConsoleMux::set_focus(unsigned vm) {
  if (vm >= count_) return;
  focus_ = vm;
  say("console of ", vms_[vm].name, "");
  if (vms_[vm].used != 0) go_on(vm);
}

void ConsoleMux::enter_raw() {
  say("raw mode for ", vms_[focus_].name, ": all that follows is its own, until Ctrl-] and r");
  raw_ = true;
  kept_bytes_ = 0;
  vms_[focus_].used = 0;
}

// The guest may have left the terminal anywhere, in any state: a soft reset (DECSTR) and a fresh line come first.
void ConsoleMux::leave_raw() {
  if (!raw_) return;
  raw_ = false;
  write("\x1b[!p\n");
  say("raw mode of ", vms_[focus_].name, " has ended");
  std::size_t at = kept_bytes_ > kKept ? kept_bytes_ - kKept : 0;
  if (at != 0) {  // from the next whole line on
    while (at < kept_bytes_ && kept_[at % kKept] != '\n') ++at;
    ++at;
    say("the first of the lines that came meanwhile are lost", "", "");
  }
  for (; at < kept_bytes_; ++at) write({&kept_[at % kKept], 1});
}

void ConsoleMux::start_raw(unsigned vm) {
  const SpinLock::Guard guard{lock_};
  leave_raw();
  focus_ = vm;
  enter_raw();
}

void ConsoleMux::stopped(unsigned vm) {
  const SpinLock::Guard guard{lock_};
  if (vm == focus_) leave_raw();
}

// A key after the hot key.
ConsoleMux::Action ConsoleMux::command(char c) {
  const bool was_raw = raw_;
  leave_raw();
  if (c == 's') return Action::summary;
  if (count_ == 0) return Action::none;
  if (c == 'r' && !was_raw) enter_raw();
  if (c == 'n') set_focus(focus_ + 1 < count_ ? focus_ + 1 : 0);
  if (c >= '0' && c <= '9') set_focus(static_cast<unsigned>(c - '0'));
  if (c == 'k') {
    say("end VM ", vms_[focus_].name, "? y: yes, any other key: no");
    keys_ = Keys::confirm;
  }
  return Action::none;
}

ConsoleMux::Action ConsoleMux::pass_on(char c) {
  if (count_ == 0) return Action::none;
  Vm& vm = vms_[focus_];
  if (vm.count == kTypeAhead) return Action::none;
  vm.typed[(vm.first + vm.count++) % kTypeAhead] = c;
  return Action::deliver;
}

ConsoleMux::Action ConsoleMux::typed(char c) {
  const SpinLock::Guard guard{lock_};
  const Keys keys = keys_;
  keys_ = Keys::plain;
  if (keys == Keys::confirm) {
    if (c == 'y') return Action::end_vm;
    say("VM ", vms_[focus_].name, " goes on");
    return Action::none;
  }
  if (keys == Keys::hot) return c == kHotKey ? pass_on(c) : command(c);
  if (c != kHotKey) return pass_on(c);
  keys_ = Keys::hot;
  return Action::none;
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
