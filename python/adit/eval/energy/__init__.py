"""Energies of crystals by a machine-learned potential: relaxation, distance above the convex hull, stability."""
