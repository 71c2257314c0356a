#include "rows.h"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace {

// In order, and a path that is no UTF-8 does not lose its row.
void print(const nlohmann::ordered_json& row) {
  std::puts(row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

// The shortest text that reads back as the same number, with a decimal point: as Python writes it.
std::string number(double value) { return nlohmann::json(value).dump(); }

std::string quoted(const std::string& text) {
  if (text.find_first_of("\",\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace

Rows::Rows(bool jsonl, bool of_windows, bool is_calibrated) : jsonl_(jsonl), is_calibrated_(is_calibrated) {
  if (jsonl) return;
  const std::string columns = of_windows ? "path,start_s,end_s,score" : "path,score,error,seconds";
  std::puts((columns + (is_calibrated ? ",llr,p_spoof" : "")).c_str());
}

void Rows::file(const std::string& path, const aasist_file_score& result, const std::string& error) const {
  const bool good = result.status == AASIST_OK;
  if (jsonl_) {
    nlohmann::ordered_json row;
    row["path"] = path;
    row["score"] = nullptr;
    row["error"] = nullptr;
    row["seconds"] = nullptr;
    if (good) {
      row["score"] = static_cast<double>(result.score);
      row["seconds"] = result.seconds;
    } else {
      row["error"] = error;
    }
    if (is_calibrated_) {
      row["llr"] = nullptr;
      row["p_spoof"] = nullptr;
      if (good) {
        row["llr"] = result.llr;
        row["p_spoof"] = result.p_spoof;
      }
    }
    print(row);
    return;
  }
  std::string line = quoted(path) + "," + (good ? number(static_cast<double>(result.score)) : "") + "," + quoted(error) + "," +
                     (good ? number(result.seconds) : "");
  if (is_calibrated_) line += good ? "," + number(result.llr) + "," + number(result.p_spoof) : ",,";
  std::puts(line.c_str());
}

void Rows::window(const aasist_window_score& window, double rate_hz, double llr, double p_spoof) const {
  const double start_s = static_cast<double>(window.start) / rate_hz;
  const double end_s = static_cast<double>(window.end) / rate_hz;
  const auto score = static_cast<double>(window.score);
  if (jsonl_) {
    nlohmann::ordered_json row{{"path", "-"}, {"start_s", start_s}, {"end_s", end_s}, {"score", score}};
    if (is_calibrated_) {
      row["llr"] = llr;
      row["p_spoof"] = p_spoof;
    }
    print(row);
    return;
  }
  std::string line = "-," + number(start_s) + "," + number(end_s) + "," + number(score);
  if (is_calibrated_) line += "," + number(llr) + "," + number(p_spoof);
  std::puts(line.c_str());
}

bool Rows::flush() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0; }
