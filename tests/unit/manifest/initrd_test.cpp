#include "hyp/manifest/initrd.hpp"

#include <gtest/gtest.h>

#include <cstdio>

#include "tests/unit/platform/tree.hpp"

namespace weir {
namespace {

using Code = InitrdError::Code;
using test::Bytes;

// A cpio archive of the newc kind, put together entry by entry.
struct Archive {
  std::string text;

  Archive& add(std::string_view name, std::string_view content, unsigned mode = 0100644) {
    char header[111];
    std::snprintf(header, sizeof header, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 1U, mode, 0U,
                  0U, 1U, 0U, content.size(), 0U, 0U, 0U, 0U, name.size() + 1, 0U);
    text.append(header).append(name).push_back('\0');
    pad();
    text.append(content);
    pad();
    return *this;
  }
  Archive& end() { return add("TRAILER!!!", "", 0); }
  void pad() { text.resize((text.size() + 3) / 4 * 4); }
};

// An allocation of exactly that size, so that the sanitizer sees every byte too far.
Bytes bytes(std::string_view text) {
  Bytes result(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) result[i] = static_cast<std::byte>(text[i]);
  return result;
}
std::string text(FileContent content) { return {reinterpret_cast<const char*>(content.data()), content.size()}; }
std::optional<Code> error_of(std::string_view archive) {
  const Bytes content = bytes(archive);
  const auto initrd = Initrd::open(content);
  return initrd ? std::nullopt : std::optional{initrd.error().code};
}

Archive sample() {
  Archive archive;
  archive.add(".", "", 040755).add("manifest.dtb", "blob!").add("./Image", "kernel").add("dir", "", 040755);
  return archive.add("dir/file", "").add("link", "Image", 0120777).end();
}

TEST(Initrd, FindsFiles) {
  const Bytes content = bytes(sample().text + std::string(512, '\0'));
  const auto initrd = Initrd::open(content);
  ASSERT_TRUE(initrd);
  EXPECT_EQ(text(initrd->find("manifest.dtb").value()), "blob!");
  EXPECT_EQ(text(initrd->find("Image").value()), "kernel");
  EXPECT_EQ(initrd->find("dir/file").value().size(), 0U);
  EXPECT_FALSE(initrd->find("dir"));
  EXPECT_FALSE(initrd->find("link"));
  EXPECT_FALSE(initrd->find("Imag"));
  EXPECT_FALSE(initrd->find(""));
  EXPECT_FALSE(initrd->find("TRAILER!!!"));
  EXPECT_FALSE(Initrd{}.find("Image"));
}

TEST(Initrd, ArchivesMayFollowEachOther) {
  const Bytes content = bytes(sample().text + std::string(8, '\0') + Archive{}.add("more", "x").end().text);
  const auto initrd = Initrd::open(content);
  ASSERT_TRUE(initrd);
  EXPECT_TRUE(initrd->find("manifest.dtb"));
  EXPECT_EQ(text(initrd->find("more").value()), "x");
}

TEST(Initrd, Errors) {
  EXPECT_EQ(error_of(""), Code::empty);
  EXPECT_EQ(error_of(std::string(100, '\0')), Code::empty);
  EXPECT_EQ(error_of("0707"), Code::truncated);
  EXPECT_EQ(error_of("garbage"), Code::not_newc);
  std::string digits = sample().text;
  digits[6 + 8 * 6 + 3] = 'x';
  EXPECT_EQ(error_of(digits), Code::bad_number);
  EXPECT_EQ(error_of(Archive{}.add(std::string_view{"a\0b", 3}, "x").end().text), Code::bad_name);
  EXPECT_EQ(error_of(Archive{}.add("", "x").end().text), Code::bad_name);
  EXPECT_EQ(error_of(Archive{}.add("a", "x").text), Code::no_trailer);
  EXPECT_EQ(error_of(Archive{}.add("a", "x").add("./a", "y").end().text), Code::duplicate);
  std::string huge = sample().text;
  for (std::size_t i = 0; i < 8; ++i) huge[6 + 8 * 6 + i] = 'f';
  EXPECT_EQ(error_of(huge), Code::truncated);
}

TEST(Initrd, ErrorsNameTheEntry) {
  const Archive first = Archive{}.add("a", "x");
  const Bytes content = bytes(first.text + "garbage, and more of it");
  const auto initrd = Initrd::open(content);
  ASSERT_FALSE(initrd);
  EXPECT_EQ(initrd.error().offset, first.text.size());
  EXPECT_EQ(initrd.error().line().view(),
            "initrd: byte 116: no entry begins here; expected 070701, as in a cpio "
            "archive of the newc kind");
}

TEST(Initrd, OtherKindsAreNamed) {
  const auto said = [](std::string text) {
    const Bytes content = bytes(text);
    const auto initrd = Initrd::open(content);
    return initrd ? std::string{} : std::string{initrd.error().line().view()};
  };
  const auto is = [](std::string kind) {
    return "initrd: it is " + kind + "; expected a plain cpio archive of the newc kind";
  };
  EXPECT_EQ(said("\x1f\x8b and so on"), is("gzip data"));
  EXPECT_EQ(said(std::string{"\xfd\x37zXZ\0 and so on", 16}), is("xz data"));
  EXPECT_EQ(said("\x28\xb5\x2f\xfd and so on"), is("zstd data"));
  EXPECT_EQ(said("070707 and so on"), is("a cpio archive of the old portable kind (odc)"));
  EXPECT_EQ(said("\xc7\x71 and so on"), is("a cpio archive of the old binary kind"));
  EXPECT_EQ(said(std::string("Image").append(252, '\0') + "ustar"), is("a tar archive"));
  EXPECT_EQ(said("PK\x03\x04 and so on"), is("a zip archive"));
  EXPECT_EQ(said(""), "initrd: it is empty; expected a cpio archive of the newc kind");
}

// The work grows with the number of files, not with its square: in headers read, not in time.
TEST(Initrd, ManyFiles) {
  const auto work = [](unsigned files) {
    Archive archive;
    for (unsigned i = 0; i < files; ++i) archive.add("file" + std::to_string(i * 7919 % files), "x");
    const Bytes content = bytes(archive.end().text);
    const auto initrd = Initrd::open(content);
    EXPECT_TRUE(initrd);
    const std::uint64_t opened = initrd->headers_read();
    EXPECT_TRUE(initrd->find("file0"));
    EXPECT_FALSE(initrd->find("file"));
    EXPECT_LT(initrd->headers_read() - opened, 64U);
    return initrd->headers_read();
  };
  const std::uint64_t few = work(1000);
  const std::uint64_t many = work(16000);
  EXPECT_LT(few, 1000U * 60);
  EXPECT_LT(many, 16 * few * 2);
}

TEST(InitrdFuzz, EveryTruncation) {
  const std::string whole = sample().text;
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_TRUE(error_of(whole.substr(0, size))) << size;
}

TEST(InitrdFuzz, EveryByteFlipped) {
  std::string archive = sample().text;
  for (char& c : archive)
    for (unsigned bit = 0; bit < 8; ++bit) {
      c = static_cast<char>(c ^ (1 << bit));
      const Bytes content = bytes(archive);
      if (const auto initrd = Initrd::open(content)) (void)initrd->find("Image");
      c = static_cast<char>(c ^ (1 << bit));
    }
}

}  // namespace
}  // namespace weir
