#include "helpers.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "onnx_file.h"

namespace {

void put_varint(Bytes& out, size_t value) {
  for (; value > 0x7F; value >>= 7) out.push_back(static_cast<uint8_t>((value & 0x7F) | 0x80));
  out.push_back(static_cast<uint8_t>(value));
}

void put_little(Bytes& out, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

void put_tag(Bytes& out, const char* tag) {
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<uint8_t>(tag[i]));
}

Bytes wav_of(const Bytes& samples, uint16_t kind, uint16_t bits, uint32_t rate_hz, uint16_t channels) {
  Bytes out;
  out.reserve(44 + samples.size());
  const auto size = static_cast<uint32_t>(samples.size());
  put_tag(out, "RIFF");
  put_little(out, 36 + size, 4);
  put_tag(out, "WAVE");
  put_tag(out, "fmt ");
  put_little(out, 16, 4);
  put_little(out, kind, 2);
  put_little(out, channels, 2);
  put_little(out, rate_hz, 4);
  const uint32_t frame = uint32_t{channels} * bits / 8;
  put_little(out, rate_hz * frame, 4);
  put_little(out, frame, 2);
  put_little(out, bits, 2);
  put_tag(out, "data");
  put_little(out, size, 4);
  out.insert(out.end(), samples.begin(), samples.end());
  return out;
}

}  // namespace

Bytes read_bytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error(path + " cannot be read");
  return Bytes(std::istreambuf_iterator<char>(stream), {});
}

std::string data(const std::string& name) { return std::string(TEST_DATA) + "/" + name; }

Bytes with_entry(Bytes model, const std::string& key, const std::string& value) {
  const Bytes entry = field(14, joined({field(1, text(key)), field(2, text(value))}));  // metadata_props
  model.insert(model.end(), entry.begin(), entry.end());
  return model;
}

Bytes field(unsigned number, const Bytes& content) {
  Bytes out;
  put_varint(out, number << 3 | 2);
  put_varint(out, content.size());
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

Bytes text(const std::string& letters) { return Bytes(letters.begin(), letters.end()); }

Bytes joined(const std::vector<Bytes>& parts) {
  Bytes out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes with_in_graph(const Bytes& model, const Bytes& fields) {
  // ir_version, and the graph with a length of two bytes.
  REQUIRE((model[0] == 0x08 && model[2] == 0x3A && model[3] >= 0x80 && model[4] < 0x80));
  const auto start = model.begin() + 5;
  const auto end = start + ((model[3] & 0x7F) | model[4] << 7);
  Bytes graph(start, end);
  graph.insert(graph.end(), fields.begin(), fields.end());
  const Bytes changed = joined({Bytes(model.begin(), model.begin() + 2), field(7, graph), Bytes(end, model.end())});
  return with_entry(changed, "graph_sha256", aasist::sha256_of(graph.data(), graph.size()));
}

Bytes tiny() { return read_bytes(data("tiny.onnx")); }

Bytes tiny_variable() { return read_bytes(data("tiny-variable.onnx")); }

Model open_model(const Bytes& bytes, const aasist_options* options) {
  aasist_model* model = nullptr;
  const auto status = aasist_open_bytes(bytes.data(), bytes.size(), options, &model);
  REQUIRE_MESSAGE(status == AASIST_OK, std::string(aasist_message()));
  return Model(model, aasist_close);
}

aasist_status opening(const Bytes& bytes) {
  aasist_model* model = nullptr;
  const auto status = aasist_open_bytes(bytes.data(), bytes.size(), nullptr, &model);
  CHECK((model == nullptr) == (status != AASIST_OK));
  aasist_close(model);
  return status;
}

TempFile::TempFile(const std::string& name, const Bytes& content) {
  const char* const base = std::getenv("TMPDIR");
  folder_ = std::string(base == nullptr ? "/tmp" : base) + "/aasist-test-XXXXXX";
  if (mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = folder_ + "/" + name;
  std::ofstream stream(path_, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
}

TempFile::~TempFile() {
  unlink(path_.c_str());
  rmdir(folder_.c_str());
}

Bytes wav(const std::vector<int16_t>& samples, uint32_t rate_hz, uint16_t channels) {
  Bytes bytes;
  for (const auto sample : samples) put_little(bytes, static_cast<uint16_t>(sample), 2);
  return wav_of(bytes, 1, 16, rate_hz, channels);
}

Bytes wav_float(const std::vector<float>& samples, uint32_t rate_hz) {
  Bytes bytes;
  for (const auto sample : samples) {
    uint32_t bits = 0;
    std::memcpy(&bits, &sample, sizeof bits);
    put_little(bytes, bits, 4);
  }
  return wav_of(bytes, 3, 32, rate_hz, 1);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
