#include "formats/weight_file.h"
