"""Words that the sentence splitter knows: kinds of abbreviations, and words that begin sentences."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Lowercase, without the full stop. They never end a sentence: titles before names, and words that introduce.
ALWAYS_GOES_ON = _words(
    """
    mr mrs ms mx messrs mlle mme mm dr drs prof profs rev revd fr hon pres gov sen rep reps sens amb atty supt det insp
    gen lieut lt col maj capt cpt cmdr cdr adm brig sgt cpl pvt pfc ens st ste sts mt mts ft msgr bp abp
    e.g eg i.e ie cf viz vs v approx ca resp esp incl excl aka a.k.a betw nr b d fl r né née
    ser ed eds trans rev'd transl orig illus intro repr comp dist div vgl z.b bzw
    """
)

# They do not end a sentence if a number follows.
BEFORE_NUMBER = _words(
    """
    no nos nr num fig figs figure p pp pg pgs par para vol vols ch chap chaps sec sect secs art arts eq eqs eqn eqns ex
    exs app tab tbl ref refs col cols ll lib bk bks pt pts op opp nov. ver item ann cl
    jan feb mar apr jun jul aug sep sept oct nov dec n° in
    """
)

# They end a sentence only if the next word is one that begins sentences.
MAY_END_SENTENCE = _words(
    """
    etc al inc ltd co corp cos bros plc llc lp pty gmbh jr sr esq ave blvd rd hwy sq dept univ assn assoc intl natl
    mfg mgr est dist ph.d phd m.d md b.a ba m.a ma b.sc bsc m.sc msc d.c u.s u.k u.n e.u a.m p.m
    mon tue tues wed thu thurs fri avg misc temp lat alt elev sp spp var subsp
    oz lb lbs ft mi km cm mm kg hr hrs mins secs yr yrs mo mos wk wks c
    ala ariz ark calif colo conn fla ga ind kan ky md mich minn mont neb nev
    okla ore penn pa tenn tex va vt wis wyo ont que alta cal
    ibid op.cit loc.cit seq ff
    """
)

# As written at the beginning of a sentence, without names.
SENTENCE_STARTERS = _words(
    """
    A About Above According After Afterwards Again All Along Already Also Although Always Among An And Another Any
    Anyone Are As At Because Before Behind Being Below Beside Besides Between Both But By Can Certainly Could Did Do
    Does Down During Each Either Even Eventually Every Everyone Everything Except Few Finally First For Four From
    Further Furthermore Had Has Have Having He Hence Her Here Hers His How However I If I'd I'll I'm I've In Indeed
    Instead Into Is It Its It's It’s I’m I’ve I’ll I’d He's She's He’s She’s They're They’re Just Last Later Less Let
    Like Many May Meanwhile Might Moreover More Most Much Must My Nearly Neither Never Nevertheless Next No Nobody None
    Nonetheless Nor Not Note Nothing Now Of Often On Once One Only Or Other Others Otherwise Our Out Over Perhaps
    Please Put Rather Returns Said See Several Shall She Should Similarly Since So Some Someone Something Sometimes Soon
    Still Such Suddenly Than That The Their Them Then There Thereafter Therefore These They This Those Though Three
    Through Throughout Thus To Today Together Too Two Under Unless Unlike Until Up Upon Use Usually Was We Well Were
    What Whatever When Whenever Where Whereas Whether Which While Who Whoever Whose Why Will With Within Without Would
    Yes Yesterday Yet You Your
    """
)
