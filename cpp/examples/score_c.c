/* Scores one audio file from C:  score_c MODEL FILE */
#include <aasist/aasist.h>
#include <stdio.h>

static int fail(void) {
  fprintf(stderr, "error: %s\n", aasist_message());
  if (*aasist_fix()) fprintf(stderr, "fix: %s\n", aasist_fix());
  return 2;
}

int main(int argc, char** argv) {
  aasist_model* model = NULL;
  aasist_file_score file;
  if (argc != 3) return fprintf(stderr, "usage: %s MODEL FILE\n", argv[0]), 2;
  if (aasist_check_abi(AASIST_ABI_VERSION) != AASIST_OK) return fail();
  if (aasist_open(argv[1], NULL, &model) != AASIST_OK) return fail();
  if (aasist_score_file(model, argv[2], &file) != AASIST_OK) {
    aasist_close(model);
    return fail();
  }
  printf("score %.4f of %.2f s; higher is more likely bona fide\n", (double)file.score, file.seconds);
  if (file.p_spoof == file.p_spoof) printf("probability of spoof %.4f\n", file.p_spoof); /* not NaN: calibrated */
  aasist_close(model);
  return 0;
}
