"""The audio timeline in Nerfstudio's viewer: play, scrub and control a talking head."""
