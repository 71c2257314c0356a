/* Scores a live stream of raw 16-bit samples as it arrives, about one line for each second:
 *   arecord -q -t raw -f S16_LE -r 16000 -c 1 | listen MODEL 16000
 *   gst-launch-1.0 -q pulsesrc ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=16000,channels=1 !
 *     fdsink | listen MODEL 16000
 * MODEL from `aasist-deploy export --stream` costs least; any other of fixed length works too.
 */
#include <aasist/aasist.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(void) {
  fprintf(stderr, "error: %s %s\n", aasist_message(), aasist_fix());
  return 2;
}

static void tell(aasist_stream* stream, double rate_hz) {
  aasist_window_score window;
  while (aasist_stream_next(stream, &window) == 1) {
    printf("%.2f-%.2f s: %.4f\n", (double)window.start / rate_hz, (double)window.end / rate_hz, (double)window.score);
    fflush(stdout);
  }
}

int main(int argc, char** argv) {
  aasist_model* model = NULL;
  aasist_stream* stream = NULL;
  aasist_info info;
  char bytes[4096];
  uint64_t hop = 0; /* samples from one window to the next */
  ssize_t n = 0;
  if (argc != 3) return fprintf(stderr, "usage: %s MODEL RATE_HZ\n", argv[0]), 2;
  if (aasist_open(argv[1], NULL, &model) || aasist_model_info(model, &info, sizeof info)) return fail();
  hop = (uint64_t)info.sample_rate_hz;
  if (info.frame_samples > 0) hop -= hop % (uint64_t)info.frame_samples; /* a file for streams counts in frames */
  if (aasist_stream_open(model, AASIST_PCM_S16LE, atoi(argv[2]), 1, hop, &stream)) return fail();
  while ((n = read(STDIN_FILENO, bytes, sizeof bytes)) > 0) {
    if (aasist_stream_push(stream, bytes, (size_t)n) != AASIST_OK) return fail();
    tell(stream, info.sample_rate_hz);
  }
  if (aasist_stream_finish(stream) != AASIST_OK) return fail();
  tell(stream, info.sample_rate_hz);
  aasist_stream_close(stream);
  aasist_close(model);
  return 0;
}
