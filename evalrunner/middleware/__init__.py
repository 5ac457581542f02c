"""What wraps an endpoint: kept answers, tries, pace, rates, budget, time limits, counts; each an endpoint itself."""
