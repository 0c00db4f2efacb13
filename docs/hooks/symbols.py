"""The symbols of the statements, for the index by symbol."""

import re
from typing import NamedTuple


class Symbol(NamedTuple):
    """A symbol of the statements.

    Attributes:
        name: as text.
        meaning: in words.
        pattern: a regular expression for it in LaTeX.
    """

    name: str
    meaning: str
    pattern: str

    def occurs_in(self, latex: str) -> bool:
        """Whether a statement has the symbol."""
        return re.search(self.pattern, latex) is not None


SYMBOLS = (
    Symbol("p*", "The optimal probabilities: in proportion to the norms of the items.", r"p\^\*|p_i\^\*"),
    Symbol("β", "How near probabilities are to the optimal ones: p ≥ βp*.", r"\\beta"),
    Symbol("χ²", "The distance of probabilities from the optimal ones; 1/(1 + χ²) is their efficiency.", r"\\chi"),
    Symbol("s", "The budget: how many items are drawn, or how many weights are kept.", r"\\frac\S*s\b|\{s\}|\bs\b"),
    Symbol("π", "Rates at which items are kept independently of each other.", r"\\pi"),
    Symbol("w*", "Trained weights of a linear model.", r"w\^\*|w_i\^\{\*2\}"),
    Symbol("u_t, u_∞", "The weights of a pruned model after t steps of training, and at the end.", r"u_t|u_\\infty"),
    Symbol("δ", "The probability with which a statement may fail.", r"\\delta"),
    Symbol("Θ", "The neural tangent kernel J Jᵀ; with a mask J diag(m) Jᵀ.", r"\\Theta|\\hat\\Theta"),
    Symbol("J", "The Jacobian of outputs by weights; J_i is its column of weight i.", r"\bJ_i|\bJ(?!_v|_\\theta)"),
    Symbol("λ", "Eigenvalues.", r"\\lambda"),
    Symbol("f_t", "The outputs of a network after time t.", r"f_t|f_0"),
    Symbol("Π", "The path kernel: the product of the Jacobian of path values by weights with its transpose.", r"\\Pi"),
    Symbol("v_p", "The value of a path: the product of its weights.", r"v_p|\\partial v"),
    Symbol("R_q", "The path norm: the sum of |v_p|^q over all paths.", r"R_q|R_1|R_2"),
    Symbol("S_i", "The score of weight i.", r"S_i|SNIP|SynFlow"),
    Symbol("p_l", "The density of layer l.", r"p_l|p_\{l|p_1"),
    Symbol("n_l, n", "Widths.", r"n_l|n_\{l|\bn\\ge|\bn<"),
    Symbol("ε", "How near subset sums must come.", r"\\varepsilon"),
    Symbol("err", "The test error of a trained network.", r"mathrm\{err\}"),
)
