#include "aasist/aasist.h"

int header_is_c(void);
int header_is_c(void) { return AASIST_ABI_VERSION; }
