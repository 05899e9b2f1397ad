import pytest
import torch

from worldmodel.nn.transformer import Block, Transformer, positions


def test_a_block_is_pytorchs_pre_norm_layer():
    torch.manual_seed(0)
    one, plain = Block(8, 2), torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    pairs = {
        "self_attn.in_proj_weight": one.queries_keys_values.weight,
        "self_attn.in_proj_bias": one.queries_keys_values.bias,
        "self_attn.out_proj.weight": one.out.weight,
        "self_attn.out_proj.bias": one.out.bias,
        "linear1.weight": one.hidden.weight,
        "linear1.bias": one.hidden.bias,
        "linear2.weight": one.back.weight,
        "linear2.bias": one.back.bias,
    }
    for number, norm in ((1, one.attention_norm), (2, one.norm)):
        pairs |= {f"norm{number}.weight": norm.weight, f"norm{number}.bias": norm.bias}
    plain.load_state_dict(pairs)
    x, sees = torch.randn(3, 5, 8), torch.ones(5, 5, dtype=torch.bool).tril()
    torch.testing.assert_close(one(x), plain(x))
    torch.testing.assert_close(one(x, sees.expand(3, 5, 5)), plain(x, src_mask=~sees))


def test_tokens_that_are_not_seen_change_nothing():
    torch.manual_seed(0)
    one, x = Transformer(8, 2, 2), torch.randn(2, 4, 8)
    sees = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)).bool().expand(2, 4, 4)
    other = x.clone()
    other[:, 2:] += 1
    assert torch.equal(one(x, sees)[:, :2], one(other, sees)[:, :2])
    assert not torch.equal(one(x)[:, :2], one(other)[:, :2])


def test_heads_share_the_units_evenly():
    with pytest.raises(ValueError, match="3 heads do not share 8 units evenly: choose a divisor of 8"):
        Block(8, 3)


def test_no_two_places_look_alike():
    found = positions(200, 16, torch.device("cpu"))
    assert found.shape == (200, 16)
    assert (torch.cdist(found, found) + 9 * torch.eye(200)).min() > 0.1
