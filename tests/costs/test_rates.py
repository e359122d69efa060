"""The device is measured in a moment, and afterwards is as before."""

import time

import torch

from autopeft.costs.rates import rates_of


def test_rates_are_those_of_real_machines_and_threads_are_as_before() -> None:
    threads, began = torch.get_num_threads(), time.process_time()
    rates = rates_of(torch.device("cpu"), threads=1)
    assert time.process_time() - began < 2
    assert 1e-13 < rates.flop < 1e-7
    assert 1e-13 < rates.byte < 1e-6
    assert 1e-8 < rates.operation < 1e-2
    assert torch.get_num_threads() == threads
