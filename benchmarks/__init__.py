"""What the README's figures come from: each measure runs both sides, Nightshift and a reference, in one go."""
