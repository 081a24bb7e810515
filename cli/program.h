/* The program: finds the verb, parses its options, runs it. */
#ifndef HS_CLI_PROGRAM_H
#define HS_CLI_PROGRAM_H

#include "cli/options.h"

extern const hs_verb hs_verb_preprocess, hs_verb_synth, hs_verb_run, hs_verb_bench, hs_verb_inspect, hs_verb_convert,
    hs_verb_devices;

/* Gives the exit code. */
int hs_program_run(int argc, char **argv);

#endif
