// The outermost layer of an ONNX file: its metadata and the hash of its graph, before a runtime sees it. Inside the graph
// only one thing is looked for: tensors whose numbers lie in another file, which a runtime would read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace aasist {

struct OnnxFile {
  std::vector<uint8_t> content;
  std::map<std::string, std::string> metadata;
  std::string graph_sha256;  // lower-case hexadecimal
};

// The bytes of a regular file. Throws Error(AASIST_MODEL_FILE).
std::vector<uint8_t> read_model_bytes(const std::string& path);

// SHA-256 in lower-case hexadecimal.
std::string sha256_of(const uint8_t* bytes, size_t n_bytes);

// Throws Error(AASIST_MODEL_FILE): no such file, not ONNX, or cut short.
OnnxFile read_onnx_file(const std::string& path);

// The same for bytes; `name` is used in messages only.
OnnxFile parse_onnx(std::vector<uint8_t> content, const std::string& name);

// Throws Error(AASIST_MODEL_FILE): numbers of a tensor lie in another file, or the graph has more fields, or more of them
// within one another, than any network has. `name` is used in messages only.
void refuse_external_data(const OnnxFile& file, const std::string& name);

}  // namespace aasist
