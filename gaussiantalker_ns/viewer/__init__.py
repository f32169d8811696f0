"""The audio timeline in Nerfstudio's viewer: play, hear, scrub and direct a talking head."""
