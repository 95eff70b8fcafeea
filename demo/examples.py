"""Texts to try, nested ones first. Sentences of our own."""

EXAMPLES = (
    "The University of Oslo studies the IL-2 gene promoter in CD8+ T cells.",
    "Deletion of the NF-kB binding site in the IL-6 gene promoter abolished its induction by dexamethasone in CD14+ "
    "monocytes.",
    "Amina Okafor of the University of Nairobi travelled to Geneva to meet officials of the World Health Organization.",
    "The patient was given 40 mg of prednisone for asthma and developed hypertension and acute renal failure.",
    "Please send the invoice for order 7741 to Maria Jensen, 12 Harbour Street, Aarhus, or call +45 5550 1234.",
)
