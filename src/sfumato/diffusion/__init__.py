"""Noise schedules, spacings and samplers. Imports no network: everything here works on any callable that denoises."""
