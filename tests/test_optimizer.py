import pytest
import torch

from wavenet.training.optimizer import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (16, 40), (40, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, *shape, generator=generator)
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.max() < 1.3
    assert values.median() > 0.6
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    cosine = torch.nn.functional.cosine_similarity(orthogonalise(matrices).flatten(1), (left @ right).flatten(1))
    assert cosine.min() > 0.9, "the direction is that of the nearest orthogonal matrix"


def test_steps_as_torch_muon_does() -> None:
    """torch computes the iteration in bfloat16 (8 bits of mantissa); ours, in float32, is held to that."""
    torch.manual_seed(0)
    start = [torch.randn(12, 20), torch.randn(20, 12)]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    optimizers = Muon(ours, lr=0.1, weight_decay=0.2), torch.optim.Muon(theirs, lr=0.1, weight_decay=0.2)
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, origin in zip(ours, theirs, start, strict=True):
        moved = (mine - origin).norm()
        assert (mine - other).norm() / moved < 0.02, "bfloat16 keeps two to three digits"


def test_only_matrices_are_taken() -> None:
    with pytest.raises(ValueError, match=r"Muon takes matrices; got a parameter of shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))])
