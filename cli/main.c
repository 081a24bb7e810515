/* The entry point; everything else is in hs_cli, where tests reach it. */
#include "cli/program.h"

int main(int argc, char **argv)
{
    return hs_program_run(argc, argv);
}
