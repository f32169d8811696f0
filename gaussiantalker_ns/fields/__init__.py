"""The networks of the paper: tri-plane, F_can, condition tokens, spatial-audio attention, deformation."""
