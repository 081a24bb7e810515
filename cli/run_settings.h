/* What the options of `hstu run` say. */
#ifndef HS_CLI_RUN_SETTINGS_H
#define HS_CLI_RUN_SETTINGS_H

#include "cli/run.h"

extern const char hs_run_default_config[];

/* The library's names of what was asked; kv_dtype NULL: nothing was. */
const char *hs_run_dtype(const hs_option_value *value);
const char *hs_run_kv_dtype(const hs_option_value *value);

/* Before anything is opened: HSTU_EINVAL for options that exclude each other or mean nothing alone. */
hstu_status hs_run_check_usage(const hs_option_value *value, hstu_error *err);
/* Knowing the model: HSTU_EINVAL for options that say nothing to its family, and protocols that are not its own. Sets
 * run->ranking. */
hstu_status hs_run_check_family(hs_run *run, const hs_option_value *value, hstu_error *err);
/* Knowing model and data set: everything that is asked of the run. HSTU_EINVAL. */
hstu_status hs_run_settings(hs_run *run, const hs_option_value *value, hstu_error *err);
/* Tells of rules that were given and that the kind of file or the protocol makes void. */
void hs_run_warn_void(hs_run *run, const hs_option_value *value);

#endif
