// Rows on stdout, in the columns of aasist-deploy score.
#pragma once

#include <aasist/aasist.h>

#include <string>

class Rows {
 public:
  Rows(bool jsonl, bool of_windows, bool is_calibrated);

  void file(const std::string& path, const aasist_file_score& result, const std::string& error) const;
  // `llr` and `p_spoof` are left out unless the model is calibrated.
  void window(const aasist_window_score& window, double rate_hz, double llr, double p_spoof) const;
  // False when what was written did not arrive, e.g. since the disk is full.
  static bool flush();

 private:
  bool jsonl_;
  bool is_calibrated_;
};
