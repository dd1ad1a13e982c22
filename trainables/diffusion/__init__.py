"""Diffusion: schedules, forward processes and samplers, shared by the methods."""
