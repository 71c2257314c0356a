// Graphs that mean harm, with a contract whose hash fits them: refused before ONNX Runtime sees them.
#include <iterator>

#include "error.h"
#include "helpers.h"
#include "onnx_file.h"

namespace {

// TensorProto: dims {1}, float, raw_data; or with its numbers in a file (external_data, data_location).
Bytes tensor(bool outside) {
  const Bytes start{0x08, 0x01, 0x10, 0x01};
  if (!outside) return joined({start, field(8, text("w")), field(9, Bytes(4))});
  const Bytes where = joined({field(1, text("location")), field(2, text("../secret.bin"))});
  return joined({start, field(8, text("w")), field(13, where), Bytes{0x70, 0x01}});
}

Bytes node_with(const Bytes& attribute) { return field(1, field(5, attribute)); }

// A graph in a graph, n times: node, attribute, graph.
Bytes nested(int n, const Bytes& innermost = {}) {
  Bytes graph = innermost;
  for (int i = 0; i < n; ++i) graph = node_with(field(6, graph));
  return graph;
}

// What is said of the graph alone; "" where nothing is.
std::string refusal(const Bytes& graph_fields) {
  try {
    aasist::refuse_external_data(aasist::parse_onnx(with_in_graph(tiny(), graph_fields), "m.onnx"), "m.onnx");
    return "";
  } catch (const aasist::Error& error) {
    CHECK(error.status() == AASIST_MODEL_FILE);
    CHECK(!error.fix().empty());
    return error.what();
  }
}

}  // namespace

TEST_SUITE("untrusted models") {
  TEST_CASE("weights in another file are found wherever they hide") {
    const std::pair<const char*, Bytes (*)(const Bytes&)> places[] = {
        {"initializer", [](const Bytes& t) { return field(5, t); }},
        {"values of a sparse initializer", [](const Bytes& t) { return field(15, field(1, t)); }},
        {"indices of a sparse initializer", [](const Bytes& t) { return field(15, field(2, t)); }},
        {"attribute", [](const Bytes& t) { return node_with(field(5, t)); }},
        {"list of an attribute", [](const Bytes& t) { return node_with(field(10, t)); }},
        {"sparse attribute", [](const Bytes& t) { return node_with(field(22, field(1, t))); }},
        {"list of sparse ones", [](const Bytes& t) { return node_with(field(23, field(2, t))); }},
        {"branch", [](const Bytes& t) { return nested(2, field(5, t)); }},
        {"list of graphs", [](const Bytes& t) { return node_with(field(11, field(5, t))); }},
    };
    for (const auto& [place, put] : places) {
      CAPTURE(place);
      CHECK(opening(with_in_graph(tiny(), put(tensor(true)))) == AASIST_MODEL_FILE);
      CHECK_MESSAGE_SAYS("has weights outside of itself, in another file: its hash says nothing of them");
      CHECK(contains(aasist_fix(), "whole in itself"));
      CHECK(refusal(put(tensor(false))) == "");
    }
  }

  TEST_CASE("weights in another file are found outside of the graph") {
    const Bytes outside = field(5, tensor(true));
    for (const Bytes& part : {field(20, field(1, outside)), field(20, field(2, outside)),
                              field(25, field(7, field(5, field(5, tensor(true))))), field(25, field(11, outside))}) {
      CHECK(opening(joined({tiny(), part})) == AASIST_MODEL_FILE);
      CHECK_MESSAGE_SAYS("outside of itself");
    }
  }

  TEST_CASE("a field number whose upper bits protobuf drops hides nothing") {
    // Five bytes of tag: field 5 and a bit that ONNX Runtime does not look at. It opens this file.
    Bytes hidden = field(5, tensor(true));
    const uint8_t tag[] = {0xAA, 0x80, 0x80, 0x80, 0x10};
    hidden.erase(hidden.begin());
    hidden.insert(hidden.begin(), std::begin(tag), std::end(tag));
    CHECK(opening(with_in_graph(tiny(), hidden)) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("is damaged: a field number of over 29 bits at byte ");
  }

  TEST_CASE("graphs within graphs are read ten deep and refused beyond") {
    CHECK(refusal(nested(10)) == "");
    const std::string said = "m.onnx has graphs nested more than 10 deep, which no network of ours has.";
    CHECK(refusal(nested(11)) == said);
    CHECK(refusal(nested(1000)) == said);
    CHECK(opening(with_in_graph(tiny(), nested(1000))) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("nested more than 10 deep");
  }

  TEST_CASE("a graph of more fields than any network has is refused") {
    Bytes nodes(2 * 1000000);
    for (size_t i = 0; i < nodes.size(); i += 2) nodes[i] = 0x0A;  // an empty node
    CHECK(refusal(nodes) == "m.onnx has more than 1000000 fields in its graph, which no network of ours has.");
  }

  TEST_CASE("damage in the graph is an error of ours") {
    CHECK(refusal({0x0A, 0x7F}) == "m.onnx is damaged: 127 bytes are missing in field 1 in its graph.");
    CHECK(refusal(node_with({0x0B})) == "m.onnx is damaged: wire type 3 at byte 0 in its graph.");
  }

  TEST_CASE("a file that ONNX Runtime would take for its own format is refused") {
    // A whole ONNX file, with a text in front whose letters make it one of another format, without any hash.
    CHECK(opening(joined({field(6, text("..ORTM")), tiny()})) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("is in ONNX Runtime's own format, which is not read here.");
    CHECK(opening(joined({field(6, text("...ORTM")), tiny()})) == AASIST_OK);
  }
}
