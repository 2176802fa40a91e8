"""The pages' speed beside torch's, Stable-Baselines3's and HIPS autograd's: see __main__."""
