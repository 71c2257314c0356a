// What the tests share: the small models, changed contracts, WAV files.
#pragma once

#include <aasist/aasist.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

using Bytes = std::vector<uint8_t>;

// The tiny models score a wave with 8 * mean; see tests/cpp/make_models.py of the repository.
inline constexpr float kGain = 8.0F;
inline constexpr size_t kTinySamples = 800;

Bytes read_bytes(const std::string& path);
std::string data(const std::string& name);
// The model with one more entry of metadata, which replaces one of the same key.
Bytes with_entry(Bytes model, const std::string& key, const std::string& value);
// A field of a protobuf message that holds bytes.
Bytes field(unsigned number, const Bytes& content);
Bytes text(const std::string& letters);
Bytes joined(const std::vector<Bytes>& parts);
// The model with more fields in its graph, and with the hash of that graph, as someone who means harm would write it.
Bytes with_in_graph(const Bytes& model, const Bytes& fields);
Bytes tiny();
Bytes tiny_variable();

using Model = std::unique_ptr<aasist_model, void (*)(aasist_model*)>;
using Stream = std::unique_ptr<aasist_stream, void (*)(aasist_stream*)>;
Model open_model(const Bytes& bytes, const aasist_options* options = nullptr);
// The status of opening it, with the message in aasist_message().
aasist_status opening(const Bytes& bytes);

// A file in a folder of its own, deleted at the end.
class TempFile {
 public:
  TempFile(const std::string& name, const Bytes& content);
  ~TempFile();
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const char* path() const { return path_.c_str(); }

 private:
  std::string folder_;
  std::string path_;
};

// A WAV file of 16-bit samples, interleaved.
Bytes wav(const std::vector<int16_t>& samples, uint32_t rate_hz = 16000, uint16_t channels = 1);
// A WAV file of float samples.
Bytes wav_float(const std::vector<float>& samples, uint32_t rate_hz = 16000);

bool contains(const std::string& text, const std::string& part);
#define CHECK_MESSAGE_SAYS(part) CHECK_MESSAGE(contains(aasist_message(), part), std::string(aasist_message()))
