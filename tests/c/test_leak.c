// A control: this leaks handles on purpose, and must be reported. If it passes, the other tests
// would not notice a leak either.
#include "check.h"

int main(void)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new("leaked", &options, &error));
    options = NULL;
    boxlite_error *leaked;
    CHECK(boxlite_box_options_set_cpus(options, 1, &leaked) == BOXLITE_INVALID_ARGUMENT);
    leaked = NULL;
    return leaked == NULL ? 0 : 1;
}
