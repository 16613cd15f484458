"""The numbers that validation wants while a network trains, of arrays in memory."""
from ldm.evaluation.fid import Moments, frechet_distance
from ldm.evaluation.runner import Evaluation, Opened, Pair


def image_moments(segmenter, pictures, batch_size=8):
    """(mean, covariance) of the segmenter's features of N x H x W x 3 uint8 pictures, which FD-seg compares
    with; TooFew of less than two."""
    moments = Moments()
    for start in range(0, len(pictures), batch_size):
        moments.add(segmenter.features(pictures[start:start + batch_size]))
    return moments.result("pictures")


def quick_metrics(results, masks, references, segmenter=None, moments=None, variant="contest_overflow",
                  batch_size=8):
    """{"M", "FD-seg", "S"}: floats, or None for what `segmenter` and `moments` are needed for.

    results: N x H x W x 3 uint8. masks: N x H x W uint8 labels. references: N images h x w x 3 uint8.
    segmenter: of `networks.open_segmenter(weight_files.find("segformer"))`. moments: `image_moments` of real
    pictures, had once. FD-seg of fewer results than the features have dimensions ranks checkpoints of one
    run by the same pictures, and is nothing to compare with other counts. TooFew of a single result.
    """
    networks = {"segformer": segmenter and Opened(segmenter, None, None), "nima": None, "inception": None}
    evaluation = Evaluation(networks, variant)
    pairs = [Pair(i, *three) for i, three in enumerate(zip(results, masks, references))]
    for start in range(0, len(pairs), batch_size):
        evaluation.add(pairs[start:start + batch_size])
    distance = None
    if segmenter and moments is not None:
        distance = frechet_distance(*evaluation.moments.result("results"), *moments)
    return {"M": evaluation.mean("M"), "FD-seg": distance, "S": evaluation.mean("S")}
