/* Ten items for one user: opens a checkpoint and a sequence file, asks, prints the original item ids.
 *
 *     cc -std=c11 recommend.c $(pkg-config --cflags --libs hstu) -o recommend
 *     ./recommend checkpoint.pt sequences.safetensors USER_ID
 *
 * The model's config.json is taken from the checkpoint's folder. The answer is what the user may want next after all
 * events but the last, which is held back as the target, as in the leave-one-out benchmark. */
#include <hstu/hstu.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOP_K = 10 };

static hstu_status recommend(const hstu_model *model, const hstu_histories *histories, int64_t i, hstu_error *err)
{
    const int64_t first = histories->offset[i], length = histories->offset[i + 1] - first;
    const int64_t offset[2] = {0, length};
    const hstu_batch batch = {.n_users = 1,
        .offset = offset,
        .item_id = histories->item_id + first,
        .timestamp = histories->timestamp ? histories->timestamp + first : NULL,
        .query_time = histories->target_time ? histories->target_time + i : NULL};
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = 1;

    hstu_session *session = NULL;
    hstu_status status = hstu_session_open(&session, model, err);
    int64_t item[TOP_K];
    float score[TOP_K];
    if (!status)
        status = hstu_recommend(session, &batch, TOP_K, &options, item, score, NULL, err);
    hstu_session_close(session);
    for (int k = 0; !status && k < TOP_K && item[k] >= 0; k++)
        printf("%2d. item %" PRId64 " (score %.6f)\n", k + 1, item[k] - histories->item_offset, (double)score[k]);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s CHECKPOINT SEQUENCES USER_ID\n", argv[0]);
        return 2;
    }
    const int64_t user_id = strtoll(argv[3], NULL, 10);
    hstu_model *model = NULL;
    hstu_dataset *dataset = NULL;
    hstu_histories *histories = NULL;
    hstu_model_info info;
    hstu_error err = {0};

    hstu_status status = hstu_model_open(&model, argv[1], NULL, &err);
    if (!status)
        status = hstu_dataset_open(&dataset, argv[2], NULL, &err);
    if (!status) {
        hstu_model_get_info(model, &info);
        status = hstu_histories_open(&histories, dataset, &info.history, &err); /* by the model's own rules */
    }
    int found = 0;
    for (int64_t i = 0; !status && !found && i < histories->n; i++)
        if (histories->user_id[i] == user_id) {
            found = 1;
            status = recommend(model, histories, i, &err);
        }
    if (status)
        fprintf(stderr, "%s: %s\n", argv[0], err.msg);
    else if (!found)
        fprintf(stderr, "%s: %s holds no user %" PRId64 " with enough events\n", argv[0], argv[2], user_id);
    hstu_histories_close(histories);
    hstu_dataset_close(dataset);
    hstu_model_close(model);
    return status || !found;
}
