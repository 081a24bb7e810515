/* The table-driven option parser and the help that comes from the same table. */
#include "cli/options.h"

#include "base/error.h"
#include "cli/suggest.h"

#include <string.h>

enum { HELP_WIDTH = 100, HELP_INDENT = 30 };

bool hs_parse_int(const char *text, int64_t min, int64_t max, int64_t *out)
{
    const bool negative = *text == '-';
    const char *c = text + negative;
    if (*c < '0' || *c > '9')
        return false;
    int64_t x = 0;
    for (; *c >= '0' && *c <= '9'; c++) {
        const int digit = *c - '0';
        /* Built downwards, since INT64_MIN has no positive twin. */
        if (x < (INT64_MIN + digit) / 10)
            return false;
        x = 10 * x - digit;
    }
    if (*c || (!negative && x == INT64_MIN))
        return false;
    x = negative ? x : -x;
    if (x < min || x > max)
        return false;
    *out = x;
    return true;
}

/* The bytes of a unit, 0 for none. */
static int64_t unit_bytes(const char *unit)
{
    static const char prefixes[] = "kmgt";
    char lower[4] = "";
    size_t n = 0;
    for (; unit[n]; n++) {
        if (n == sizeof lower - 1)
            return 0;
        lower[n] = unit[n] >= 'A' && unit[n] <= 'Z' ? (char)(unit[n] - 'A' + 'a') : unit[n];
    }
    if (n == 0 || strcmp(lower, "b") == 0)
        return 1;
    const char *prefix = strchr(prefixes, lower[0]);
    const bool binary = lower[1] == '\0' || strcmp(lower + 1, "ib") == 0;
    if (!prefix || (!binary && strcmp(lower + 1, "b") != 0))
        return 0;
    int64_t bytes = 1;
    for (ptrdiff_t i = prefix - prefixes; i >= 0; i--)
        bytes *= binary ? 1024 : 1000;
    return bytes;
}

bool hs_parse_size(const char *text, int64_t min, int64_t max, int64_t *out)
{
    char digits[24];
    const size_t n = strspn(text, "0123456789");
    const int64_t unit = unit_bytes(text + n);
    int64_t count = 0;
    if (unit == 0 || n >= sizeof digits)
        return false;
    memcpy(digits, text, n);
    digits[n] = '\0';
    if (!hs_parse_int(digits, 0, INT64_MAX / unit, &count) || count * unit < min || count * unit > max)
        return false;
    *out = count * unit;
    return true;
}

static char fold(char c)
{
    return c == '-' ? '_' : c;
}

/* The n characters at `a` are the text `b`, '-' and '_' alike. */
static bool same_text(const char *a, size_t n, const char *b)
{
    for (size_t i = 0; i < n; i++) {
        if (b[i] == '\0' || fold(a[i]) != fold(b[i]))
            return false;
    }
    return b[n] == '\0';
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static hstu_status parse_int(const hs_option *option, const char *text, int64_t *out, hstu_error *err)
{
    if (hs_parse_int(text, option->min, option->max, out))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "option --%s wants a whole number from %lld to %lld, found '%.80s'",
        option->name, (long long)option->min, (long long)option->max, text);
}

static hstu_status parse_size(const hs_option *option, const char *text, int64_t *out, hstu_error *err)
{
    if (hs_parse_size(text, option->min, option->max, out))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0,
        "option --%s wants a size such as 4GiB, 512MiB or 1073741824, %lld to %lld bytes, found '%.80s'", option->name,
        (long long)option->min, (long long)option->max, text);
}

static hstu_status parse_ints(const hs_option *option, const char *text, hs_option_value *value, hstu_error *err)
{
    const char *from = text;
    for (;;) {
        const size_t n = strcspn(from, ",");
        char number[24];
        if (value->n_list == HS_MAX_OPTION_VALUES)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s takes at most %d numbers, found more", option->name,
                (int)HS_MAX_OPTION_VALUES);
        (void)snprintf(number, sizeof number, "%.*s", n < sizeof number ? (int)n : (int)sizeof number - 1, from);
        int64_t x = 0;
        HS_TRY(parse_int(option, n < sizeof number ? number : text, &x, err));
        for (size_t i = 0; i < value->n_list; i++) {
            if (value->list[i] == x)
                return hs_fail(
                    err, HSTU_EINVAL, 0, "option --%s names %lld twice in '%.80s'", option->name, (long long)x, text);
        }
        value->list[value->n_list++] = x;
        if (from[n] == '\0')
            return HSTU_OK;
        from += n + 1;
    }
}

static hstu_status parse_text(const hs_option *option, const char *text, hs_option_value *value, hstu_error *err)
{
    if (!*text)
        return hs_fail(err, HSTU_EINVAL, 0, "option --%s wants %s, found nothing", option->name, option->value);
    if (option->kind == HS_OPTION_TEXT)
        return HSTU_OK;
    if (value->n_list == HS_MAX_OPTION_VALUES)
        return hs_fail(err, HSTU_EINVAL, 0, "option --%s may be given %d times, found more", option->name,
            (int)HS_MAX_OPTION_VALUES);
    value->texts[value->n_list++] = text;
    return HSTU_OK;
}

static hstu_status parse_choice(const hs_option *option, const char *text, int64_t *out, hstu_error *err)
{
    const char *word = option->value;
    for (int64_t i = 0;; i++) {
        const size_t length = strcspn(word, "|");
        if (same_text(word, length, text)) {
            *out = i;
            return HSTU_OK;
        }
        if (word[length] == '\0')
            return hs_fail(
                err, HSTU_EINVAL, 0, "option --%s wants one of %s, found '%.80s'", option->name, option->value, text);
        word += length + 1;
    }
}

static bool is_on_off(const char *text, int64_t *out)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return false;
    *out = text[1] == 'n';
    return true;
}

static hstu_status parse_value(const hs_option *option, const char *text, hs_option_value *value, hstu_error *err)
{
    value->text = text;
    switch (option->kind) {
    case HS_OPTION_TEXT:
    case HS_OPTION_TEXTS:
        return parse_text(option, text, value, err);
    case HS_OPTION_INT:
        return parse_int(option, text, &value->number, err);
    case HS_OPTION_INTS:
        return parse_ints(option, text, value, err);
    case HS_OPTION_SIZE:
        return parse_size(option, text, &value->number, err);
    case HS_OPTION_CHOICE:
        return parse_choice(option, text, &value->number, err);
    case HS_OPTION_SWITCH:
        return is_on_off(text, &value->number)
                   ? HSTU_OK
                   : hs_fail(err, HSTU_EINVAL, 0, "option --%s wants on or off, found '%.80s'", option->name, text);
    case HS_OPTION_FLAG:
        break;
    }
    return hs_fail(err, HSTU_EINVAL, 0, "option --%s takes no value, found '%.80s'", option->name, text);
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

/* The option of the first n characters of `name`; *negated when it is a switch written as no_<name>. */
static const hs_option *find(const hs_verb *verb, const char *name, size_t n, bool *negated)
{
    *negated = false;
    for (size_t i = 0; i < verb->n_options; i++) {
        const hs_option *option = &verb->option[i];
        if (same_text(name, n, option->name))
            return option;
        if (option->kind == HS_OPTION_SWITCH && n > 3 && (same_text(name, 3, "no_")) &&
            same_text(name + 3, n - 3, option->name)) {
            *negated = true;
            return option;
        }
    }
    return NULL;
}

static hstu_status fail_unknown(const hs_verb *verb, const char *name, size_t n, hstu_error *err)
{
    const char *names[HS_MAX_OPTIONS + 1];
    for (size_t i = 0; i < verb->n_options; i++)
        names[i] = verb->option[i].name;
    names[verb->n_options] = "help";
    char word[64];
    (void)snprintf(word, sizeof word, "%.*s", n < sizeof word ? (int)n : (int)sizeof word - 1, name);
    const char *near = hs_suggest(word, names, verb->n_options + 1);
    if (near)
        return hs_fail(
            err, HSTU_EINVAL, 0, "unknown option '--%s' of 'hstu %s': did you mean '--%s'?", word, verb->name, near);
    return hs_fail(err, HSTU_EINVAL, 0, "unknown option '--%s' of 'hstu %s': 'hstu %s --help' lists the options", word,
        verb->name, verb->name);
}

/* ---- the command line ------------------------------------------------------------------------------------------- */

static hstu_status parse_option(hs_options *out, const hs_verb *verb, int argc, char **argv, int *at, hstu_error *err)
{
    const char *name = argv[*at] + 2;
    const size_t n = strcspn(name, "=");
    const char *text = name[n] == '=' ? name + n + 1 : NULL;
    bool negated = false;
    const hs_option *option = find(verb, name, n, &negated);
    if (!option)
        return fail_unknown(verb, name, n, err);
    hs_option_value *value = &out->value[option - verb->option];
    if (value->given && option->kind != HS_OPTION_TEXTS)
        return hs_fail(err, HSTU_EINVAL, 0, "option --%s is given twice: give it once", option->name);
    value->given = true;
    value->number = !negated;
    if (negated && text)
        return hs_fail(err, HSTU_EINVAL, 0, "option --no_%s takes no value, found '%.80s'", option->name, text);
    if (option->kind == HS_OPTION_FLAG || option->kind == HS_OPTION_SWITCH) {
        /* Where nothing else can stand behind a switch, a word there is its value, right or wrong. */
        int64_t ignored = 0;
        if (!text && option->kind == HS_OPTION_SWITCH && !negated && *at + 1 < argc &&
            (is_on_off(argv[*at + 1], &ignored) || (!verb->operand && argv[*at + 1][0] != '-')))
            text = argv[++*at];
        return text ? parse_value(option, text, value, err) : HSTU_OK;
    }
    if (!text) {
        if (*at + 1 >= argc)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s wants %s, found the end of the command line", option->name,
                option->value);
        text = argv[++*at];
        /* A forgotten value must not swallow the next option. */
        if (strncmp(text, "--", 2) == 0)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s wants %s, found the option '%.80s'", option->name,
                option->value, text);
    }
    return parse_value(option, text, value, err);
}

static hstu_status take_operand(hs_options *out, const hs_verb *verb, const char *argument, hstu_error *err)
{
    if (verb->operand && !out->operand)
        out->operand = argument;
    else if (verb->second_operand && !out->second_operand)
        out->second_operand = argument;
    else
        return hs_fail(err, HSTU_EINVAL, 0, "'hstu %s' takes %s, found '%.80s'", verb->name,
            verb->second_operand ? "two files"
            : verb->operand      ? "one file"
                                 : "only options",
            argument);
    return HSTU_OK;
}

static bool is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

hstu_status hs_options_parse(hs_options *out, const hs_verb *verb, int argc, char **argv, hstu_error *err)
{
    *out = (hs_options){0};
    for (int i = 0; i < argc; i++)
        out->help = out->help || is_help(argv[i]);
    if (out->help)
        return HSTU_OK;
    for (int i = 0; i < argc; i++) {
        const char *argument = argv[i];
        if (strncmp(argument, "--", 2) == 0 && argument[2] != '\0') {
            HS_TRY(parse_option(out, verb, argc, argv, &i, err));
        } else if (argument[0] == '-' && argument[1] != '\0') {
            return hs_fail(err, HSTU_EINVAL, 0, "unknown option '%.80s' of 'hstu %s': long options begin with '--'",
                argument, verb->name);
        } else {
            HS_TRY(take_operand(out, verb, argument, err));
        }
    }
    if (verb->operand && !out->operand)
        return hs_fail(err, HSTU_EINVAL, 0, "'hstu %s' wants %s, found nothing", verb->name, verb->operand);
    if (verb->second_operand && !out->second_operand)
        return hs_fail(err, HSTU_EINVAL, 0, "'hstu %s' wants %s behind '%.80s', found nothing", verb->name,
            verb->second_operand, out->operand);
    for (size_t i = 0; i < verb->n_options; i++) {
        if (!out->value[i].given && verb->option[i].fallback)
            HS_TRY(parse_value(&verb->option[i], verb->option[i].fallback, &out->value[i], err));
    }
    return HSTU_OK;
}

/* ---- help ------------------------------------------------------------------------------------------------------- */

/* Prints words from column `column` on, breaking lines before `HELP_WIDTH`; gives the column reached. */
static size_t print_wrapped(FILE *out, const char *text, size_t column, size_t indent)
{
    while (*text) {
        const size_t n = strcspn(text, " ");
        if (column > indent && column + 1 + n > HELP_WIDTH) {
            (void)fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            (void)fputc(' ', out);
            column++;
        }
        (void)fprintf(out, "%.*s", (int)n, text);
        column += n;
        text += n + (text[n] == ' ');
    }
    return column;
}

static void print_option(FILE *out, const hs_option *option)
{
    char head[128], tail[192] = "";
    (void)snprintf(head, sizeof head, "  --%s%s%s%s", option->kind == HS_OPTION_SWITCH ? "[no_]" : "", option->name,
        option->value ? " " : "", option->value ? option->value : "");
    size_t column = strlen(head);
    (void)fputs(head, out);
    if (column + 2 > HELP_INDENT) {
        (void)fputc('\n', out);
        column = 0;
    }
    (void)fprintf(out, "%*s", (int)(HELP_INDENT - column), "");
    column = print_wrapped(out, option->help, HELP_INDENT, HELP_INDENT);
    const char *fallback = option->fallback ? option->fallback : option->fallback_text;
    if (fallback)
        (void)snprintf(tail, sizeof tail, "(default: %s)", fallback);
    (void)print_wrapped(out, tail, column, HELP_INDENT);
    (void)fputc('\n', out);
}

void hs_options_help(FILE *out, const hs_verb *verb)
{
    (void)fprintf(out, "usage: hstu %s ", verb->name);
    if (verb->operand)
        (void)fprintf(out, "%s ", verb->operand);
    if (verb->second_operand)
        (void)fprintf(out, "%s ", verb->second_operand);
    (void)fputs("[options]\n\n", out);
    (void)print_wrapped(out, verb->text, 0, 0);
    (void)fputs("\n\noptions ('-' and '_' in names are alike; --name value and --name=value too):\n", out);
    for (size_t i = 0; i < verb->n_options; i++)
        print_option(out, &verb->option[i]);
    (void)fprintf(out, "  %-*s%s\n", HELP_INDENT - 2, "--help", "this text");
    (void)fprintf(out, "\nexample:\n  %s\n", verb->example);
}
