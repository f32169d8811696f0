"""The networks of the paper: tri-plane, F_can, tokens, spatial-audio attention, deformation."""
