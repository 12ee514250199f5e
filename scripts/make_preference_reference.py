#!/usr/bin/env python3
"""Writes tests/reference/preference.json: preference losses on fixed log-probabilities, with gradients, by TRL's own code.

usage: scripts/make_preference_reference.py TRL_0_8_6 TRL_0_24_0 TRL_1_16_0 [--output FILE]
Each argument is a folder that `pip install --no-deps --target FOLDER trl==VERSION` filled; torch has to be importable. TRL moved its losses
over the years: sigmoid with label smoothing, ipo and hinge are those of 0.24.0, kto_pair of 0.8.6 (0.9 removed it), orpo and simpo of 1.16.0
(trl.experimental). The methods are cut out of the sources, so that nothing else of TRL or what it imports is needed.
"""
import argparse
import ast
import json
import pathlib
import types
import typing

import torch
import torch.nn.functional as F


def method(file, name, **names):
    """The function `name` of a class in a source file, with the module-level helpers it needs in `names`."""
    tree = ast.parse(file.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    assert len(found) == 1, (file, name, len(found))
    found[0].decorator_list = []
    found[0].returns = None
    scope = {"torch": torch, "F": F, "nn": torch.nn, "Union": typing.Union, "Optional": typing.Optional, "Literal": typing.Literal,
             "Any": typing.Any, **names}
    exec(compile(ast.Module(body=found, type_ignores=[]), str(file), "exec"), scope)
    return scope[name]


def version(folder):
    info = next(folder.glob("trl-*.dist-info"))
    return info.name.removeprefix("trl-").removesuffix(".dist-info")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("middle", type=pathlib.Path)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "tests/reference/preference.json")
    args = parser.parse_args()
    versions = [version(folder) for folder in (args.old, args.middle, args.new)]
    assert versions == ["0.8.6", "0.24.0", "1.16.0"], versions

    divergence = types.SimpleNamespace(ALPHA_DIVERGENCE="alpha", JS_DIVERGENCE="js")
    dpo = method(args.middle / "trl/trainer/dpo_trainer.py", "dpo_loss", FDivergenceType=divergence)
    kto = method(args.old / "trl/trainer/dpo_trainer.py", "dpo_loss")
    log1mexp = method(find_helper(args.new, "def log1mexp"), "log1mexp")
    orpo = method(next((args.new / "trl").rglob("orpo_trainer.py")), "odds_ratio_loss", log1mexp=log1mexp)
    cpo = method(next((args.new / "trl").rglob("cpo_trainer.py")), "cpo_loss")

    generator = torch.Generator().manual_seed(7)

    def draw(scale, shift):
        return (torch.randn(6, generator=generator, dtype=torch.float64) * scale + shift).float()

    sums = {"chosen": draw(6, -40), "rejected": draw(6, -41)}
    sums |= {"ref_chosen": sums["chosen"] + draw(5, 0), "ref_rejected": sums["rejected"] + draw(5, 0)}
    means = {key: -value.abs() / 20 for key, value in sums.items()}
    means["chosen"][0] = -0.05  # the other branch of log(1 - exp(x))

    def trainer(beta, smoothing, **more):
        device = types.SimpleNamespace(device="cpu")
        return types.SimpleNamespace(beta=beta, label_smoothing=smoothing, reference_free=False, f_divergence_type="reverse_kl",
                                     accelerator=device, alpha=0.0, **more)

    def losses(loss, beta, smoothing, gamma, values):
        policy = [values["chosen"], values["rejected"]]
        reference = [values["ref_chosen"], values["ref_rejected"]]
        if loss in ("sigmoid", "hinge", "ipo"):
            return dpo(trainer(beta, smoothing), *policy, *reference, loss), "0.24.0"
        if loss == "kto_pair":
            per_answer, *rewards = kto(trainer(beta, smoothing, loss_type=loss), *policy, *reference)
            return (per_answer.view(2, -1).mean(0), *rewards), "0.8.6"  # TRL takes the mean over both halves
        if loss == "orpo":
            ratio, *rewards = orpo(trainer(beta, smoothing), *policy)[:3]
            return (-policy[0] - ratio, *rewards), "1.16.0"  # loss = nll - beta log sigmoid(..)
        return cpo(trainer(beta, smoothing, loss_type=loss, simpo_gamma=gamma), *policy), "1.16.0"

    cases = []
    settings = [(loss, beta, smoothing, 0.5) for loss in ("sigmoid",) for beta in (0.05, 0.1, 0.5) for smoothing in (0.0, 0.1, 0.3)]
    settings += [(loss, beta, 0.0, 0.5) for loss in ("ipo", "hinge", "kto_pair", "orpo") for beta in (0.05, 0.1, 0.5)]
    settings += [("simpo", beta, smoothing, gamma) for beta in (0.1, 2.0) for smoothing in (0.0, 0.2) for gamma in (0.0, 0.5, 1.5)]
    for loss, beta, smoothing, gamma in settings:
        values = {key: value.clone() for key, value in (means if loss in ("ipo", "orpo", "simpo") else sums).items()}
        for key in ("chosen", "rejected"):
            values[key].requires_grad_(True)
        (per_pair, chosen_rewards, rejected_rewards), trl = losses(loss, beta, smoothing, gamma, values)
        per_pair.sum().backward()
        case = {"loss": loss, "beta": beta, "label_smoothing": smoothing, "simpo_gamma": gamma, "trl": trl}
        case |= {key: value.tolist() for key, value in values.items()}
        case |= {"losses": per_pair.tolist(), "chosen_rewards": chosen_rewards.tolist(), "rejected_rewards": rejected_rewards.tolist(),
                 "chosen_grad": values["chosen"].grad.tolist(), "rejected_grad": values["rejected"].grad.tolist()}
        cases.append(case)
    args.output.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} cases in {args.output}")


def find_helper(folder, text):
    return next(file for file in (folder / "trl").rglob("*.py") if text in file.read_text())


if __name__ == "__main__":
    main()
