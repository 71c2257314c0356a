// Damage is found before ONNX Runtime sees the file.
#include <algorithm>
#include <iterator>

#include "helpers.h"

TEST_SUITE("onnx_file") {
  TEST_CASE("a missing file, a folder and an empty file are refused by name") {
    aasist_model* model = nullptr;
    CHECK(aasist_open("/nonexistent/model.onnx", nullptr, &model) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("/nonexistent/model.onnx cannot be read: No such file");
    CHECK(aasist_open("/tmp", nullptr, &model) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("Is a directory");
    CHECK(aasist_open("/dev/zero", nullptr, &model) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("not a regular file");
    const TempFile empty("empty.onnx", {});
    CHECK(aasist_open(empty.path(), nullptr, &model) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("holds no graph (0 bytes)");
    CHECK(model == nullptr);
  }

  TEST_CASE("text is no model") {
    const std::string text = "PK\x03\x04 this is no protobuf at all";
    CHECK(opening(Bytes(text.begin(), text.end())) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("is not an ONNX model");
  }

  TEST_CASE("a model that is cut short is refused, but between two entries of optional metadata") {
    // There it is a whole file with a shorter contract, as which the format allows no telling apart.
    const Bytes whole = tiny();
    const uint8_t entry = 0x72;  // tag of field 14
    int n_whole = 0;
    for (size_t n = 1; n < whole.size(); ++n) {
      CAPTURE(n);
      const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
      const auto status = opening(part);
      CHECK((status == AASIST_MODEL_FILE || (status == AASIST_OK && whole[n] == entry)));
      n_whole += status == AASIST_OK;
    }
    CHECK(n_whole < 14);  // of the contract's optional fields
  }

  TEST_CASE("a model with any one byte changed is refused or gives the same contract") {
    const Bytes whole = tiny();
    for (size_t n = 0; n < whole.size(); ++n) {
      Bytes changed = whole;
      changed[n] ^= 0xFF;
      CAPTURE(n);
      const auto status = opening(changed);
      CHECK((status == AASIST_OK || status == AASIST_MODEL_FILE));
    }
  }

  TEST_CASE("a changed weight is found by the hash") {
    Bytes changed = tiny();
    const uint8_t gain[] = {0, 0, 0, 0x41};  // 8.0F, little-endian
    const auto at = std::search(changed.begin(), changed.end(), std::begin(gain), std::end(gain));
    REQUIRE(at != changed.end());
    *(at + 3) = 0x42;
    CHECK(opening(changed) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("was altered after export: its graph hashes to");
  }

  TEST_CASE("two graphs are damage, since a runtime would merge them") {
    Bytes twice = tiny();
    const Bytes again = twice;
    twice.insert(twice.end(), again.begin(), again.end());
    CHECK(opening(twice) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("it holds 2 graphs");
  }

  TEST_CASE("metadata that is no UTF-8 is damage") {
    CHECK(opening(with_entry(tiny(), "note", "\xFF\xFE")) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("metadata that is not UTF-8");
    for (const char* text : {"\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xE2\x82", "\xF0\x80\x80\x80"}) {
      CHECK(opening(with_entry(tiny(), "note", text)) == AASIST_MODEL_FILE);
    }
    CHECK(opening(with_entry(tiny(), "note", "\xE2\x82\xAC \xF0\x9F\x8E\xA4")) == AASIST_OK);
  }
}
